"""Indexes one video file by scanning its packets, without decoding them.

Frame n is the n-th picture that a decoder shows from the start. Of a plain file (`_plain`) the packets' times tell
that; packets that are never shown (discarded by an edit list, or VP8's hidden reference frames) are left out:

    packets (decoding order)   I0 P3 B1 B2 P6 B4 B5
    frame numbers              0  3  1  2  6  4  5     ->  pts sorted, key_frames = [0]

Any other file is decoded once (`_shown`).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from . import _changes, _colors, _container, _frames, _header, _orientation, _plain, _shown
from ._video import Label, UnreadableVideo, Video

STILL = ("mjpeg", "png", "gif", "bmp", "webp", "tiff")  # codecs of covers that are not marked as such
BLOCK = 1 << 17  # bytes that stay in the processor's cache between the disk and the hash


def scan(path: Path | str, label: Label = -1) -> Video:
    """Scan one file (its best video stream), or a folder of frames; the returned path is absolute.

    A file is a video if it shows a picture of some size in a stream that is no cover of a sound file. Raises
    UnreadableVideo if it is missing, empty, no video, or truncated: pictures that its headers promise are missing.
    """
    path = Path(path).absolute()
    if path.is_dir():
        return _frames.scan(path, label)
    size = _complete_size(path)
    try:
        facts = _demux(path, _header.UNDECODED) if _container.holds_times(path) else None
        facts = facts or _demux(path, {})
        assert facts is not None
        if "pts" not in facts:
            facts |= _decoded(path, facts["stream"])
        if facts["changes"] and facts["codec"] == "mjpeg":
            facts["key_frames"] = facts["key_frames"][:1]
        if not facts["width"] or not facts["height"]:
            raise UnreadableVideo("no picture can be decoded: the headers that say its size are missing")
    except FFmpegError as error:
        raise UnreadableVideo(f"cannot be demuxed: {error.strerror}") from error
    except ValueError as error:  # PyAV decodes a header's texts as it opens the file
        raise UnreadableVideo(f"cannot be demuxed: {error}") from error
    rotation, flipped = _orientation.read(path, facts["stream"]) if _container.is_turned(path) else _orientation.UPRIGHT
    return Video(path=path, label=label, size=size, hash=file_hash(path), rotation=rotation, flipped=flipped, **facts)


def _demux(path: Path, options: dict[str, str]) -> dict[str, Any] | None:
    """Return the `Video` fields that the packets hold; None if opened with `UNDECODED` and some are missing."""
    with av.open(str(path), options=options) as container:
        stream = _moving(container)
        context = stream.codec_context
        packets = container.demux(stream)
        if options:
            first = next(packets)
            known = _header.read(stream, first) if first.size else None
            if known is None:
                return None
            context, packets = known, itertools.chain([first], packets)
        elif context.codec.canonical_name in _header.CODECS:
            packets = _header.shown_first(context, packets)
        watch = _changes.Watch(context.codec.canonical_name, stream.codec_context.extradata)
        found, step, hidden, whole = _read(watch.through(packets), _plain.Packets(context))
        if len(found.pts) == 1 and container.streams.audio and context.codec.canonical_name in STILL:
            raise UnreadableVideo("no video stream: a sound file with a cover")
        tick = stream.time_base or Fraction(1, 1)
        whole = whole and not (watch.changed and context.codec.reorder)  # a decoder may drop what it holds back
        plain = whole and _plain.is_plain(found, context, container=container.format.name, tick=float(tick))
        return {
            **(_presentation(found, step, tick) if plain else {}),
            "width": context.width,
            "height": context.height,
            "codec": context.codec.canonical_name,
            "profile": context.profile or "",
            "pix_fmt": context.pix_fmt or "",
            "stream": stream.index,
            "pixel_aspect": str(stream.sample_aspect_ratio or context.sample_aspect_ratio or 1).replace("/", ":"),
            "hidden": hidden,
            "coded_width": context.coded_width,
            "coded_height": context.coded_height,
            "changes": watch.changed,
            "sited": context.codec.canonical_name in ("vp8", "vp9") and _container.is_sited(path),
            **_colors.tags(context),
        }


def file_hash(path: Path) -> str:
    """Return a file's 16-byte BLAKE2b hash in hexadecimal."""
    digest, block = hashlib.blake2b(digest_size=16), bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(memoryview(block)[:count])
    return digest.hexdigest()


def _moving(container: InputContainer) -> av.VideoStream:
    """Return the best video stream, or if that is a cover, the largest other one. Raises UnreadableVideo."""
    best, streams = container.streams.best("video"), container.streams.video
    moving = [stream for stream in streams if not stream.disposition & Disposition.attached_pic]
    if not moving:
        raise UnreadableVideo("no video stream" + ": a sound file with a cover" * bool(streams))
    if best not in moving:
        best = max(moving, key=lambda stream: stream.width * stream.height if stream.codec_context else 0)
    if best.codec_context is None:
        raise UnreadableVideo("a codec that this PyAV does not know")
    assert isinstance(best, av.VideoStream)
    return best


def _complete_size(path: Path) -> int:
    """Return a file's size in bytes. Raises UnreadableVideo if it is shorter than its container's headers say.

    A demuxer would silently show a shorter video. Headers that are wrong do not matter if all pictures are there.
    """
    if not path.is_file():
        raise UnreadableVideo("no such file")
    size = path.stat().st_size
    if size == 0:
        raise UnreadableVideo("empty file")
    if (declared := _container.declared_size(path)) > size and not _all_packets(path):
        raise UnreadableVideo(f"truncated: {size} of {declared} bytes")
    return size


def _all_packets(path: Path) -> bool:
    """Whether a file has, uncut, as many packets as its headers count; False if they do not (Matroska)."""
    try:
        with av.open(str(path), options={**_header.UNDECODED, "ignore_editlist": "1"}) as container:
            stream = _moving(container)
            packets = [packet for packet in container.demux(stream) if packet.size]
            return len(packets) == stream.frames and not any(packet.is_corrupt for packet in packets)
    except (FFmpegError, UnreadableVideo):
        return False


def _read(packets: Iterable[av.Packet], found: _plain.Packets) -> tuple[_plain.Packets, int, int, bool]:
    """Return the packets that are shown, the last one's duration, the number of hidden ones, and whether all are whole.

    Raises UnreadableVideo if there are none, or the last one is cut short.
    """
    vp8, whole, damaged = found.codec == "vp8", True, False
    hidden = step = 0
    cut = False
    for packet in packets:
        whole = whole and not damaged
        size, corrupt = packet.size, packet.is_corrupt
        if packet.is_discard or (vp8 and _hidden_vp8(packet)):
            hidden += 1
        elif size:
            found.add(packet)
            step = packet.duration or step
        cut = corrupt if size else cut
        damaged = corrupt or not size
    if not found.pts:
        raise UnreadableVideo("no frames")
    if cut:
        raise UnreadableVideo("truncated: a packet is cut short")
    return found, step, hidden, whole


def _presentation(found: _plain.Packets, step: int, tick: Fraction) -> dict[str, Any]:
    """Return the `Video` fields of a plain file's frames; the last frame lasts `step`, or as long as the mean."""
    pts = found.times()
    assert pts is not None
    order = np.argsort(pts)
    if not step and len(pts) > 1:
        step = int(np.ptp(pts)) // (len(pts) - 1)
    return {
        "frames": len(pts),
        "pts": pts[order],
        "time_base": tick,
        "key_frames": np.flatnonzero(np.array(found.keys)[order]).astype(np.int32),
        "duration": float((int(np.ptp(pts)) + step) * tick),
    }


def _decoded(path: Path, stream: int) -> dict[str, Any]:
    """Return the `Video` fields of a file's frames, learnt by decoding it."""
    shown = _shown.learn(path, stream)
    if broken := [packet for packet in shown.failed if packet > shown.packets[0]]:
        raise UnreadableVideo(f"truncated: its picture {broken[0]} cannot be decoded: {shown.failed[broken[0]]}")
    return {
        "frames": len(shown.pts),
        "pts": shown.pts,
        "time_base": shown.time_base,
        "key_frames": shown.key_frames,
        "duration": shown.duration,
        "packets": shown.packets,
    }


def _hidden_vp8(packet: av.Packet) -> bool:
    # RFC 6386, 9.1: bit 4 of a frame's first byte is `show_frame`.
    return packet.size > 0 and not memoryview(packet)[0] >> 4 & 1
