"""A folder of JPEG or PNG frames as a video: `codec="frames"`, one time unit per frame, all key frames, duration 0.

Size and orientation are the first frame's: frames of another size are resampled to it, each by its own pixel format.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from . import _colors, _orientation
from ._video import Label, UnreadableVideo, Video

# `00001.jpg` (Something-Something v1, Jester) and `img_00001.jpg` (raw frames), not `flow_x_00001.jpg` beside them.
NAME = re.compile(r"(?:img_|image_|frame)?(\d+)\.(?:jpe?g|png)", re.IGNORECASE)
# How a file of each format begins, what it ends with, and within how many bytes (some cameras append zeros).
FORMATS = {"JPEG": (b"\xff\xd8", b"\xff\xd9", 64), "PNG": (b"\x89PNG\r\n\x1a\n", b"IEND", 64)}
EXIF, EXIF_WITHIN, ORIENTATION = b"Exif\0\0", 1 << 16, 0x112
TURNS = {2: (0, True), 3: (180, False), 4: (180, True), 5: (270, True), 6: (90, False), 7: (90, True), 8: (270, False)}


def files(folder: Path) -> list[Path]:
    """Return a folder's frame files, sorted by the number in their names; files not named like `NAME` are left out.

    PNG files beside JPEG files are left out, too: such are masks.
    """
    numbered = ((NAME.fullmatch(path.name), path) for path in folder.iterdir())
    found = sorted((int(match[1]), path) for match, path in numbered if match)
    jpegs = [path for _, path in found if path.suffix.lower() != ".png"]
    return jpegs or [path for _, path in found]


def remux(pictures: list[bytes]) -> np.ndarray:
    """Return an AVI file (as uint8 bytes) of these files of one format (at least one), without re-encoding them."""
    file = io.BytesIO()
    with av.open(io.BytesIO(pictures[0]), mode="r") as first, av.open(file, mode="w", format="avi") as target:
        stream = target.add_stream_from_template(first.streams.video[0])
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, number, number, True
            target.mux(packet)
    return np.frombuffer(file.getbuffer(), dtype=np.uint8)


def scan(folder: Path, label: Label = -1) -> Video:
    """Return the index entry of a folder of frames; size, colors and orientation are read from the first frame.

    Raises UnreadableVideo if there are no frames, one is not complete (start and end markers), they have several
    formats or orientations, or the first cannot be opened.
    """
    frames = files(folder)
    if not frames:
        raise UnreadableVideo("no frames named 00001.jpg (or .png) or img_00001.jpg")
    digest = hashlib.blake2b(digest_size=16)
    size, kinds = 0, set()
    for frame in frames:
        data = frame.read_bytes()
        kinds.add((_format(frame.name, data), _turn(data)))
        digest.update(data)
        size += len(data)
    if len(kinds) > 1:
        raise UnreadableVideo("its frames have several formats or orientations")
    ((_, (rotation, flipped)),) = kinds
    try:
        with av.open(str(frames[0])) as picture:
            context = picture.streams.video[0].codec_context
            width, height, pix_fmt = context.width, context.height, context.pix_fmt or ""
            colors = _colors.tags(context)
    except FFmpegError as error:
        raise UnreadableVideo(f"{frames[0].name} cannot be read: {error.strerror}") from error
    numbers = np.arange(len(frames))
    return Video(
        path=folder, label=label, frames=len(frames), pts=numbers.astype(np.int64), time_base=Fraction(1),
        key_frames=numbers.astype(np.int32), width=width, height=height, codec="frames", profile="", pix_fmt=pix_fmt,
        duration=0.0, size=size, hash=digest.hexdigest(), color_matrix=colors["color_matrix"],
        color_range=colors["color_range"], rotation=rotation, flipped=flipped,
    )  # fmt: skip


def _format(name: str, data: bytes) -> str:
    for known, (start, end, within) in FORMATS.items():
        if data.startswith(start) and end in data[-within:]:
            return known
    raise UnreadableVideo(f"{name} is no complete JPEG or PNG")


def _turn(data: bytes) -> _orientation.Orientation:
    """Return the orientation that a JPEG's Exif header states (Exif 3.0, 4.6)."""
    tiff = data[data.find(EXIF, 0, EXIF_WITHIN) + len(EXIF) :] if EXIF in data[:EXIF_WITHIN] else b""
    order = "<" if tiff[:2] == b"II" else ">"
    with suppress(struct.error):
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for number in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * number)
            if tag == ORIENTATION:
                return TURNS.get(value, _orientation.UPRIGHT)
    return _orientation.UPRIGHT
