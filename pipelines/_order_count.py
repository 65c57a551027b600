"""Reads picture order counts from the headers of H.264 and HEVC: the order of display that decoders go by.

At an open key frame the count goes on; where another recording was joined there, it does not, and a decoder shows the
pictures around it in another order than their times say, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from . import _nal
from ._bits import Bits

H264_SPS, HEVC_SPS, HEVC_PPS = 7, 33, 34  # NAL unit types
HIGH = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # H.264 profiles with chroma formats
HEADER = 48  # bytes of a slice that are read


class Count(NamedTuple):
    """A picture's order count modulo `modulus`, and whether it begins a new sequence."""

    value: int
    modulus: int
    resets: bool


def read(codec: str, units: Iterable[bytes], configuration: bytes) -> Count | None:
    """Return the count of an H.264 or HEVC picture, given its NAL units; None if its headers do not say.

    Of H.264 pictures without a count of their own, it is 0 modulo 1.
    """
    with suppress(ValueError, IndexError):
        return _of_h264(units, configuration) if codec == "h264" else _of_hevc(units, configuration)
    return None


def _of_h264(units: Iterable[bytes], configuration: bytes) -> Count | None:
    sets = b""
    for unit in units:
        if unit[0] & 31 == H264_SPS:
            sets = unit
        elif unit[0] & 31 in (1, 5):
            sets = sets or next((u for u in _nal.sets("h264", configuration) if u[0] & 31 == H264_SPS), b"")
            return _h264(unit[:HEADER], sets) if sets else None
    return None


def _h264(unit: bytes, sets: bytes) -> Count | None:
    """Read a slice header (ISO 14496-10, 7.3.3)."""
    planes, frame_bits, kind, count_bits, frames_only = _h264_sequence(sets)
    bits, resets = _payload(unit, 1), unit[0] & 31 == 5
    bits.skip(3)
    bits.take(2 * planes + frame_bits)
    if not frames_only and bits.take(1):
        bits.take(1)
    if resets:
        bits.ue()
    return Count(bits.take(count_bits), 1 << count_bits, resets) if kind == 0 else Count(0, 1, resets)


@lru_cache(maxsize=64)
def _h264_sequence(unit: bytes) -> tuple[bool, int, int, int, bool]:
    """Read a sequence parameter set (ISO 14496-10, 7.3.2.1.1).

    Returns whether planes are separate, the bits of frame_num, the kind of order count and its bits, and whether there
    are no fields.
    """
    bits, planes, count_bits = _payload(unit, 1), False, 0
    profile = bits.take(24) >> 16
    bits.ue()
    if profile in HIGH:
        chroma = bits.ue()
        planes = chroma == 3 and bits.take(1) == 1
        bits.skip(2)
        if bits.take(2) & 1:
            for number in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    frame_bits, kind = bits.ue() + 4, bits.ue()
    if kind == 0:
        count_bits = bits.ue() + 4
    elif kind == 1:
        bits.take(1)
        bits.skip(2)
        bits.skip(bits.ue())
    bits.skip(1)
    bits.take(1)
    bits.skip(2)
    return planes, frame_bits, kind, count_bits, bits.take(1) == 1


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _of_hevc(units: Iterable[bytes], configuration: bytes) -> Count | None:
    found: dict[int, bytes] = {}
    for unit in units:
        kind = unit[0] >> 1 & 63
        if kind in (HEVC_SPS, HEVC_PPS):
            found[kind] = unit
        elif kind < 32:
            found = {u[0] >> 1 & 63: u for u in _nal.sets("hevc", configuration)} | found
            return _hevc(unit[:HEADER], found) if HEVC_SPS in found and HEVC_PPS in found else None
    return None


def _hevc(unit: bytes, sets: dict[int, bytes]) -> Count:
    """Read a slice segment header (ISO 23008-2, 7.3.6.1)."""
    planes, count_bits = _hevc_sequence(sets[HEVC_SPS])
    picture, bits = _payload(sets[HEVC_PPS][:HEADER], 2), _payload(unit, 2)
    picture.skip(2)
    picture.take(1)
    output, extra = picture.take(1), picture.take(3)
    if unit[0] >> 1 & 63 in (19, 20):  # IDR: it carries none
        return Count(0, 1 << count_bits, True)
    bits.take(2 if unit[0] >> 1 & 63 >= 16 else 1)  # random access points have one flag more
    bits.skip(1)
    bits.take(extra)
    bits.skip(1)
    bits.take(output + 2 * planes)
    return Count(bits.take(count_bits), 1 << count_bits, unit[0] >> 1 & 63 in (16, 17, 18))


@lru_cache(maxsize=64)
def _hevc_sequence(unit: bytes) -> tuple[bool, int]:
    """Read a sequence parameter set (ISO 23008-2, 7.3.2.2.1): whether planes are separate, the bits of the count."""
    bits = _payload(unit, 2)
    layers = bits.take(7) & 7
    bits.take(1 + 96)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.ue()
    planes = bits.ue() == 3 and bits.take(1) == 1
    bits.skip(2)
    if bits.take(1):
        bits.skip(4)
    bits.skip(2)
    return planes, bits.ue() + 4


def _payload(unit: bytes, start: int) -> Bits:
    """Return the bits of a NAL unit from its second or third byte on, without emulation prevention."""
    return Bits(unit[start:].replace(b"\0\0\3", b"\0\0"))
