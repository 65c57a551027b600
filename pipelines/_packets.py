"""Finds the packets that decoding some frames requires, and makes a small file of just those.

    key frames   K . . . . . . K . . . . . . K . . . .
    wanted           x   x                     x   x
    excerpt      K . x . x                   K x . x        0 1 2 3 4 5 6 7 8, of which 2 4 6 8 are wanted

DALI's CPU decoder always decodes from the start of the file; an excerpt makes that as short as possible. And of a file
of gigabytes, only the excerpt is read.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from . import _cropping
from ._header import UNDECODED

EARLIER, MISSED = 32, 256  # frames by which to seek earlier, more than decoding is ahead; packets to look through then
MILLISECONDS = 40  # between frames of a Matroska excerpt (its time unit is 1 ms)


class Mismatch(Exception):  # noqa: N818 (always caught)
    """A file's frames are not those of the index."""


def opened(content: np.ndarray | Path, options: dict[str, str] | None = None) -> InputContainer:
    """Open a file, given its bytes or its path."""
    return av.open(str(content) if isinstance(content, Path) else io.BytesIO(content.data), mode="r", options=options)


def is_avi(content: np.ndarray | Path) -> bool:
    """Whether a file is an AVI, which stores no pts: FFmpeg guesses them, and not always in order."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return file.read(4) == b"RIFF"
    return content[:4].tobytes() == b"RIFF"


def groups(wanted: np.ndarray, keys: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (key frame, wanted frames before the next key frame); `wanted` is ascending."""
    starts = keys[np.searchsorted(keys, wanted, side="right") - 1] if len(keys) else np.zeros_like(wanted)
    for group in np.split(wanted, np.flatnonzero(np.diff(starts)) + 1):
        yield int(starts[np.searchsorted(wanted, group[0])]), group


def excerpt(
    content: np.ndarray | Path, stream: int, wanted: np.ndarray, pts: np.ndarray, keys: np.ndarray,
    *, coded: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return a file of the packets that decoding `wanted` (ascending) requires, and the frames' numbers in it (int32).

    The file is Matroska, or AVI if the source is, as uint8 bytes. `wanted` and `keys` are frame numbers in the source,
    `pts` the times of all its frames. With the `coded` width and height of H.264, its frames show the padding
    on the right, too (see `_cropping`). If the packets do not match the index, or something is cropped on the left,
    returns the whole file and `wanted`.
    """
    file, avi = io.BytesIO(), is_avi(content)
    try:
        with opened(content, None if avi else UNDECODED) as source:
            video = source.streams[stream]
            packets = list(_needed(source, video, wanted, pts, keys))
            shown = sorted(packet.pts for packet in packets)
            numbers = np.searchsorted(shown, pts[wanted]).astype(np.int32)
            with av.open(file, mode="w", format="avi" if avi else "matroska") as target:
                copy = target.add_stream_from_template(video, opaque=True)  # needs no encoder of the codec
                _retime(packets, shown, step=1 if avi else MILLISECONDS)
                for packet in map(_cropping.removing(video, copy, coded), packets) if coded else packets:
                    packet.stream = copy
                    target.mux(packet)
            if coded and not _cropping.is_removed(file, video.codec_context.extradata or b"", coded):
                raise Mismatch("something is cropped on the left")
    except (Mismatch, FFmpegError, ValueError):
        return np.fromfile(content, np.uint8) if isinstance(content, Path) else content, wanted
    return np.frombuffer(file.getbuffer(), dtype=np.uint8), numbers


def from_key(source: InputContainer, video: Any, key: int, pts: np.ndarray) -> Iterator[Any]:
    """Yield the packets from a key frame's on, the empty last one included. Raises Mismatch if it is not found.

    Where a container has no index, FFmpeg seeks by decoding times, and passes the key frame: its own is before its pts.
    """
    before = int(pts[key - EARLIER]) if key >= EARLIER else int(pts[0] - EARLIER * np.ptp(pts) // max(len(pts) - 1, 1))
    for time, most in ((int(pts[key]), 1), (before, MISSED)):
        source.seek(time, stream=video)
        packets = iter(source.demux(video))
        for packet in itertools.islice(packets, most):
            if packet.pts == pts[key]:
                yield packet
                yield from packets
                return
    raise Mismatch(f"frame {key} is not where the index says")


def _needed(source: Any, video: Any, wanted: np.ndarray, pts: np.ndarray, keys: np.ndarray) -> Iterator[Any]:
    """Yield, in decoding order, the packets from each group's key frame to the last wanted frame of the group.

    Frames that are stored after a key frame but shown before it depend on the previous group: they are dropped, unless
    that group was read up to them.
    """
    seen: set[int] = set()
    packets: Iterator[Any] = iter(())
    for key, group in groups(wanted, keys):
        first, missing = int(pts[key]), set(pts[group].tolist()) - seen
        if first not in seen:
            packets = from_key(source, video, key, pts)
        while missing:
            packet = next(packets, None)
            if packet is None or packet.pts is None:
                raise Mismatch(f"a frame after {key} is not where the index says")
            if packet.pts >= first:
                seen.add(packet.pts)
                missing.discard(packet.pts)
                yield packet


def _retime(packets: list[Any], shown: list[int], step: int) -> None:
    """Assign new times, `step` apart (AVI would fill gaps with empty frames), such that pts >= dts."""
    ranks = [int(np.searchsorted(shown, packet.pts)) for packet in packets]
    delay = max(number - rank for number, rank in enumerate(ranks))
    for number, (packet, rank) in enumerate(zip(packets, ranks, strict=True)):
        packet.dts, packet.pts = number * step, (rank + delay) * step
