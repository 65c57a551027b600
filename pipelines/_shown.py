"""Decodes a stream so that each picture is known by its packet: learns thereby which pictures a file shows, and when.

    packets, in decoding order   0:I5  1:B3  2:B4  3:P8  4:B6  5:B7     (cut: B3 and B4 lack their reference)
    frames shown                 I5 B6 B7 P8  ->  packets = [0, 4, 5, 3]

The packets' times are replaced by their numbers, which the decoder hands on to the pictures: so they cannot repeat or
lack, whatever the file's times are.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video import VideoStream
from av.video.frame import PictureType

from ._plain import JUMP
from ._video import UnreadableVideo

FINER = 1000  # parts of a time unit, where frames share one
FINEST = Fraction(1, 10**9)  # seconds
UNKNOWN = -1  # the packet of a picture, where a decoder does not say
FPS = 25  # of a stream without any times


class Decoder:
    """Decodes a stream from any packet on.

    `clock` holds (pts, dts) of the packets so far, `failed` the reason for those that cannot be decoded, by number.
    Empty packets are not counted.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.stream = stream
        self.clock: list[tuple[int | None, int | None]] = []
        self.failed: dict[int, str] = {}
        self._packets = container.demux(stream)

    def start(self, number: int) -> bool:
        """Go on from a packet; return False, and do nothing, if it has been read already."""
        if number < len(self.clock):
            return False
        self.stream.codec_context.flush_buffers()
        while len(self.clock) < number and (packet := next(self._packets, None)) is not None:
            self._count(packet)
        return True

    def _count(self, packet: av.Packet) -> None:
        if packet.size:
            number = len(self.clock)
            self.clock.append((packet.pts, packet.dts))
            packet.pts, packet.dts = number, None

    def frames(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the pictures shown, each with the number of its packet; what cannot be decoded is passed over."""
        for packet in self._packets:
            self._count(packet)
            try:
                for frame in packet.decode():
                    yield UNKNOWN if frame.pts is None else frame.pts, frame
            except FFmpegError as error:
                self.failed[len(self.clock) - 1] = error.strerror or str(error)


class Shown(NamedTuple):
    """What a decode of the whole stream showed, by frame: see `Video`.

    `failed` is that of the `Decoder`, and `corrupt` holds the packets whose pictures FFmpeg calls corrupt.
    """

    packets: np.ndarray
    key_frames: np.ndarray
    pts: np.ndarray
    time_base: Fraction
    duration: float
    failed: dict[int, str]
    corrupt: list[int]


def learn(path: Path, number: int, options: dict[str, str] | None = None) -> Shown:
    """Decode a file's stream. `options` are those of the decoder. Raises UnreadableVideo or FFmpegError."""
    with av.open(str(path)) as container:
        stream = container.streams[number]
        assert isinstance(stream, VideoStream)
        stream.thread_type, stream.codec_context.options = "NONE", options or {}
        decoder = Decoder(container, stream)
        frames = [
            (packet, frame.key_frame and frame.pict_type == PictureType.I, frame.is_corrupt)
            for packet, frame in decoder.frames()
        ]
        if not frames:
            raise UnreadableVideo("no frames")
        packets, keys, corrupt = np.array(frames, np.int32).T
        base, rate = stream.time_base or Fraction(1, FPS), stream.average_rate or stream.base_rate or FPS
        joined = JUMP / base if container.format.name in ("mpegts", "mpeg") else float("inf")
    pts, base = _times(packets, decoder.clock, base, step=float(1 / rate / base), joined=float(joined))
    duration = float((pts[-1] - pts[0] + (np.median(np.diff(pts)) if len(pts) > 1 else 1 / rate / base)) * base)
    starts = _starts(packets, keys.astype(bool))
    return Shown(packets, starts, pts, base, duration, decoder.failed, packets[corrupt == 1].tolist())


def _starts(packets: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the first frame, and the key frames from which on decoding needs no packet before theirs."""
    later = np.minimum.accumulate(packets[::-1])[::-1]
    return np.union1d([0], np.flatnonzero(keys & (later == packets))).astype(np.int32)


def _times(
    packets: np.ndarray, clock: list[tuple[int | None, int | None]], base: Fraction, *, step: float, joined: float
) -> tuple[np.ndarray, Fraction]:
    """Return ascending times of frames, and their unit: the file's own times as far as they can be true.

    Otherwise they begin at 0. Within a recording they are sorted, as the times of decoding are if a container holds
    only those. Missing ones and those that repeat are interpolated. Another recording that was joined follows on the
    one before.
    """
    column = int(all(pts is None for pts, _ in clock))  # of an AVI, there may be decoding times only
    found = [clock[packet][column] if packet >= 0 else None for packet in packets.tolist()]
    if None not in found:
        steps = np.diff(own_times := np.array(found, np.int64))
        if ((steps > 0) & (steps <= joined)).all():
            return own_times, base
    part, times, end = np.maximum.accumulate(_recordings(clock, joined)[packets]), np.empty(len(packets)), 0.0
    for recording in np.unique(part):
        own = np.flatnonzero(part == recording)
        times[own] = end + _spread([found[number] for number in own], step)
        usual = float(np.median(np.diff(times[own]))) if len(own) > 1 else step
        end = float(times[own[-1]]) + usual
    whole = np.rint(times).astype(np.int64)
    while (whole != times).any() and base > FINEST:
        times, base = times * FINER, base / FINER
        whole = np.rint(times).astype(np.int64)
        if (np.diff(whole) > 0).all():
            break
    return whole, base


def _recordings(clock: list[tuple[int | None, int | None]], joined: float) -> np.ndarray:
    """Return the number of the recording that each packet belongs to: a new one begins where decoding times go back."""
    part, number, last = np.zeros(len(clock), np.int64), 0, None
    for packet, (_, time) in enumerate(clock):
        if time is not None:
            number += last is not None and not 0 <= time - last <= joined
            last = time
        part[packet] = number
    return part


def _spread(found: list[int | None], step: float) -> np.ndarray:
    """Return ascending times, from 0, of a recording's frames, given theirs as shown: sorted, gaps interpolated."""
    known = [(number, time) for number, time in enumerate(found) if time is not None]
    if not known:
        return np.arange(len(found)) * step
    at = np.array([number for number, _ in known], np.float64)
    ordered = np.sort(np.array([time for _, time in known], np.int64))
    first = np.append(True, np.diff(ordered) > 0)
    at, values = at[first], (ordered - ordered[0])[first].astype(np.float64)
    if len(at) > 1:
        step = float(values[-1] / (at[-1] - at[0]))
    numbers = np.arange(len(found), dtype=np.float64)
    times = np.interp(numbers, at, values)
    before, after = numbers < at[0], numbers > at[-1]
    times[before] = (numbers[before] - at[0]) * step
    times[after] = values[-1] + (numbers[after] - at[-1]) * step
    return times - times[0]
