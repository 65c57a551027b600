"""Reads from a packet's first bytes which kind of picture it holds: I (a key frame), P or B."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from av import Packet

from . import _nal, _vp9
from ._bits import Bits

MPEG4, MPEG12 = b"\0\0\1\xb6", b"\0\0\1\0"  # start codes of a picture
START = 4096  # bytes in which they lie
# The least bytes of an MPEG-4 picture: below lie those that say "not coded" only, for which nothing is shown.
CODED = 20
UNIT = 512  # bytes of a NAL unit that are looked at: all of a parameter set
H264 = {0: "P", 1: "B", 2: "I", 3: "P", 4: "I"}  # slice types (ISO 14496-10, table 7-6), modulo 5
HEVC_KEYS = range(16, 24)  # NAL unit types of random access points (ISO 23008-2, table 7-1)
CODECS = ("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "vp8", "vp9")


def kind(codec: str, packet: Packet) -> str:
    """Return `I`, `P` or `B`, or "" if the packet's first bytes do not say, or nothing may be shown of it.

    The codec is one of `CODECS`, but for H.264 and HEVC see `kind_of_units`.
    """
    if codec == "vp8":
        return "P" if memoryview(packet)[0] & 1 else "I"
    if codec == "vp9":
        return _vp9.kind(memoryview(packet))
    return _mpeg(codec, bytes(memoryview(packet)[:START]), packet.size)


def kind_of_units(codec: str, found: Iterable[bytes]) -> str:
    """Return the same for the NAL units of an H.264 or HEVC packet (see `units`). HEVC's B pictures count as P."""
    if codec == "h264":
        return next((_h264(unit) for unit in found if unit[0] & 31 in (1, 5)), "")
    types = (unit[0] >> 1 & 63 for unit in found)
    return next(("I" if number in HEVC_KEYS else "P" for number in types if number < 32), "")


def _mpeg(codec: str, start: bytes, size: int) -> str:
    """Read an MPEG-1, 2 (ISO 13818-2, 6.3.9) or 4 (ISO 14496-2, 6.3.5) picture header."""
    at = start.find(MPEG4 if codec == "mpeg4" else MPEG12)
    if at < 0 or at + 5 >= len(start):
        return ""
    if codec == "mpeg4":
        return "" if size < CODED else "IPBP"[start[at + 4] >> 6]
    return {1: "I", 2: "P", 3: "B"}.get(start[at + 5] >> 3 & 7, "")


def _h264(unit: bytes) -> str:
    """Read a slice header: first_mb_in_slice, slice_type (ISO 14496-10, 7.3.3), both Exp-Golomb codes."""
    bits = Bits(unit[1:13])
    with suppress(ValueError):
        bits.ue()
        return H264.get(bits.ue() % 5, "")
    return ""


def units(codec: str, packet: Packet, configuration: bytes) -> Iterator[bytes]:
    """Yield the beginnings of an H.264 or HEVC packet's NAL units, after start codes or lengths (ISO 14496-15, 5.3)."""
    data, at, prefix = bytes(packet), 0, _nal.length_size(codec, configuration)
    if not prefix:
        while (at := data.find(_nal.START, at) + len(_nal.START)) >= len(_nal.START):
            if at < len(data):
                yield data[at : at + UNIT]
        return
    while at + prefix < len(data):
        yield data[at + prefix : at + prefix + UNIT]
        at += prefix + int.from_bytes(data[at : at + prefix], "big")
