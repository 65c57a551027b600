"""Reads container headers: how many bytes a file should have, and whether they may turn its video.

FFmpeg reads a truncated file without an error, as if the video were shorter; the headers show the difference.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

EBML = b"\x1a\x45\xdf\xa3"
UNKNOWN_SIZE = 0xFFFFFFFF  # RIFF: the writer never filled in the size
SEGMENT = b"\x18\x53\x80\x67"
CLUSTER = b"\x1f\x43\xb6\x75"
AFTER = (b"\x1c\x53\xbb\x6b", b"\x12\x54\xc3\x67")  # Cues and Tags: after the last cluster, or in the header
PROJECTION = b"\x76\x70"  # Matroska's element, among the tracks
SITING = b"\x55\xb7\x81"  # the same: where chroma lies horizontally, in one byte
HEADER = 1 << 16  # bytes in which Matroska's tracks lie
# First boxes of MP4 and QuickTime files, and where in a box its matrix begins.
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"pnot")
NEEDED = (b"moov", b"moof", b"mdat")  # boxes of samples and of what says where they are
MATRICES = {b"mvhd": 36, b"tkhd": 40}


def declared_size(path: Path) -> int:
    """Return where an MP4, Matroska or AVI file's pictures end at the latest, in bytes, according to its headers.

    0 if they do not say. What follows the pictures does not count: trailers of cameras, tags, Matroska's indexes.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == EBML:
            return _matroska(file)
        if head[:4] == b"RIFF":
            (size,) = struct.unpack("<I", head[4:8])
            return 0 if size == UNKNOWN_SIZE else size + 8
        if head[4:8] in BOXES:
            return max((end for kind, _, end in _boxes(file, 0, _length(file)) if kind in NEEDED), default=0)
    return 0


def holds_times(path: Path) -> bool:
    """Whether this is a Matroska or MP4 file, whose packets all have a pts."""
    with path.open("rb") as file:
        head = file.read(8)
    return head[:4] == EBML or head[4:8] == b"ftyp"


def is_turned(path: Path) -> bool:
    """Whether the headers of an MP4 or Matroska file may turn or mirror its video; False for other containers.

    It is a quick look: what they say is read by FFmpeg (`_orientation`).
    """
    with path.open("rb") as file:
        head = file.read(HEADER)
        if head[:4] == EBML:
            return PROJECTION in head
        if head[4:8] not in BOXES:
            return False
        for _, start, end in (b for b in _boxes(file, 0, _length(file)) if b[0] == b"moov"):
            for kind, first, last in list(_boxes(file, start, end)):
                headers = _boxes(file, first, last) if kind == b"trak" else [(kind, first, last)]
                if any(_turns(file, kind, body) for kind, body, _ in headers if kind in MATRICES):
                    return True
    return False


def is_sited(path: Path) -> bool:
    """Whether a Matroska file may say where chroma lies between the pixels: a quick look at its headers."""
    with path.open("rb") as file:
        head = file.read(HEADER)
    return head[:4] == EBML and SITING in head


def _turns(file: BinaryIO, kind: bytes, start: int) -> bool:
    """Whether the matrix of an `mvhd` or `tkhd` box (ISO 14496-12, 8.2.2 and 8.3.2) is not the identity."""
    file.seek(start)
    body = file.read(96)
    matrix = MATRICES[kind] + (12 if body[:1] == b"\x01" else 0)  # version 1 has times and duration of 64 bits
    values = struct.unpack(">5i", body[matrix : matrix + 20].ljust(20, b"\0"))
    return any(values) and (values[0] <= 0 or values[4] <= 0 or values[1] != 0 or values[3] != 0)


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
    """Return the end of the Segment after the EBML header, of its last cluster if Cues or Tags begin after that.

    0 if its size is unknown (live streams).
    """
    file.seek(4)
    header, _ = _vint(file)
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return 0
    size, unknown = _vint(file)
    start = file.tell()
    if unknown or start + size <= _length(file):
        return 0 if unknown else start + size
    return _clusters_end(file, start) or start + size


def _clusters_end(file: BinaryIO, start: int) -> int:
    """Return the end of the last cluster of a Segment that is cut off; 0 unless something else begins after it."""
    end, length = 0, _length(file)
    while start + len(CLUSTER) <= length:
        file.seek(start)
        first = file.read(1)
        kind = first + file.read(8 - first[0].bit_length())
        if kind in AFTER and end:
            return end
        size, unknown = _vint(file)
        if unknown:
            return 0
        start = file.tell() + size
        end = start if kind == CLUSTER else end
    return 0


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
