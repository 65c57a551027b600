"""What a container's own headers say: how many bytes the file should have, and how the picture is turned.

FFmpeg ends a truncated file quietly, as if the video were shorter. The headers know better.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

EBML = b"\x1a\x45\xdf\xa3"
OPEN = 0xFFFFFFFF  # a RIFF whose writer did not come back to fill in the size
SEGMENT = b"\x18\x53\x80\x67"


def declared_size(path: Path) -> int:
    """Return how many bytes the outermost elements of an MP4, Matroska or AVI file claim; 0 where they do not say."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == EBML:
            return _matroska(file)
        if head[:4] == b"RIFF":
            (size,) = struct.unpack("<I", head[4:8])
            return 0 if size == OPEN else size + 8
        if head[4:8] == b"ftyp":
            return max((end for _, _, end in _boxes(file, 0, _length(file))), default=0)
    return 0


def holds_times(path: Path) -> bool:
    """Whether this is a Matroska or MP4 file, which state every frame's time themselves."""
    with path.open("rb") as file:
        head = file.read(8)
    return head[:4] == EBML or head[4:8] == b"ftyp"


def rotation(path: Path) -> int:
    """Return the clockwise rotation in degrees that an MP4's video track asks players for; 0 in other containers."""
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
    """Yield (type, start of the body, claimed end) of the boxes between two offsets."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        body = start + 8
        if size == 1:
            size = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))[0]
            body += 8
        claimed = start + size if size else end
        if claimed < body:
            return
        yield kind, body, claimed
        start = claimed


def _matroska(file: BinaryIO) -> int:
    """Return the end of the Segment that follows the EBML header; 0 where its size is left open (live)."""
    file.seek(4)
    header, _ = _vint(file)
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return 0
    size, unknown = _vint(file)
    return 0 if unknown else file.tell() + size


def _vint(file: BinaryIO) -> tuple[int, bool]:
    """Read an EBML variable-length integer; the flag says that all bits are set, which means unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return 0, True
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return value, value == (1 << 7 * length) - 1


def _length(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)
