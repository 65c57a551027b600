"""Reads container headers: how many bytes a file should have, and the rotation of its video.

FFmpeg reads a truncated file without an error, as if the video were shorter; the headers show the difference.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

EBML = b"\x1a\x45\xdf\xa3"
UNKNOWN_SIZE = 0xFFFFFFFF  # RIFF: the writer never filled in the size
SEGMENT = b"\x18\x53\x80\x67"


def declared_size(path: Path) -> int:
    """Return an MP4, Matroska or AVI file's size in bytes according to its headers; 0 if they do not say."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == EBML:
            return _matroska(file)
        if head[:4] == b"RIFF":
            (size,) = struct.unpack("<I", head[4:8])
            return 0 if size == UNKNOWN_SIZE else size + 8
        if head[4:8] == b"ftyp":
            return max((end for _, _, end in _boxes(file, 0, _length(file))), default=0)
    return 0


def holds_times(path: Path) -> bool:
    """Whether this is a Matroska or MP4 file, whose packets all have a pts."""
    with path.open("rb") as file:
        head = file.read(8)
    return head[:4] == EBML or head[4:8] == b"ftyp"


def rotation(path: Path) -> int:
    """Return the clockwise display rotation, in degrees, of an MP4's video track; 0 for other containers."""
    with path.open("rb") as file:
        if file.read(8)[4:8] != b"ftyp":
            return 0
        for _, start, end in (b for b in _boxes(file, 0, _length(file)) if b[0] == b"moov"):
            for _, first, last in (b for b in _boxes(file, start, end) if b[0] == b"trak"):
                header = next((b for b in _boxes(file, first, last) if b[0] == b"tkhd"), None)
                if header and (angle := _angle(file, header[1])) is not None:
                    return angle
    return 0


def _angle(file: BinaryIO, start: int) -> int | None:
    """Read a `tkhd` box (ISO 14496-12, 8.3.2): the matrix's first row, if the track has a picture."""
    file.seek(start)
    body = file.read(96)
    # Version, flags, times, track and duration; then reserved, layer, group and volume (16 bytes) before the matrix.
    matrix = (36 if body[:1] == b"\x01" else 24) + 16
    if len(body) < matrix + 44:
        return None
    a, b = struct.unpack(">ii", body[matrix : matrix + 8])
    (width,) = struct.unpack(">I", body[matrix + 36 : matrix + 40])
    return round(math.degrees(math.atan2(b, a))) % 360 if width else None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of the body, end as declared) of the MP4 boxes between two offsets."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        body = start + 8
        if size == 1:
            size = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))[0]
            body += 8
        declared_end = start + size if size else end
        if declared_end < body:
            return
        yield kind, body, declared_end
        start = declared_end


def _matroska(file: BinaryIO) -> int:
    """Return the end of the Segment after the EBML header; 0 if its size is unknown (live streams)."""
    file.seek(4)
    header, _ = _vint(file)
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return 0
    size, unknown = _vint(file)
    return 0 if unknown else file.tell() + size


def _vint(file: BinaryIO) -> tuple[int, bool]:
    """Read an EBML variable-length integer; return (value, whether it is the reserved value for unknown)."""
    first = file.read(1)
    if not first or not first[0]:
        return 0, True
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return value, value == (1 << 7 * length) - 1


def _length(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)
