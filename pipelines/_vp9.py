"""Reads the size and the kind of a VP9 packet's frames from their headers (VP9 specification, 6.2 and 7.2)."""

from __future__ import annotations

from collections.abc import Iterator

import av

from ._bits import Bits

HEADER_BYTES = 24  # which a frame's headers, up to its size, do not exceed
MARKER = 2  # with which a frame begins
RGB = 7  # a color space


def size(packet: av.Packet) -> tuple[int, ...]:
    """Return width and height, and of a key frame the format, if a packet states them (VP9 specification, 6.2, 7.2).

    Of several frames in one packet, the last that states a size counts: those before it are not shown.
    """
    data, found = memoryview(packet), ()
    if len(data) > 3 and data[0] & 0b1110 == 0b0110 and data[3] >> (3 if data[0] & 1 else 1) & 1:
        return ()  # most are like this: shown, and of the size of their first reference
    for at in _frames(data):
        found = _frame(data[at : at + HEADER_BYTES].tobytes()) or found
    return found


def kind(data: memoryview) -> str:
    """Return `I` or `P` by the first frame's header; "" if the packet is one frame that is hidden."""
    head = data[0]
    profile = (head >> 5 & 1) | (head >> 4 & 1) << 1
    bits = head << 8 | (data[1] if len(data) > 1 else 0)
    at = 11 - (profile == 3)  # the place of show_existing_frame
    if bits >> at & 1:
        return "P"
    superframe = data[len(data) - 1] & 0xE0 == 0xC0
    if not superframe and not bits >> at - 2 & 1:
        return ""
    return "P" if bits >> at - 1 & 1 else "I"


def _frames(data: memoryview) -> Iterator[int]:
    """Yield where the frames of a VP9 packet begin (VP9 specification, annex B)."""
    at, last = 0, data[-1]
    yield at
    if last & 0xE0 == 0xC0:
        width, count = (last >> 3 & 3) + 1, (last & 7) + 1
        sizes = data[len(data) - 1 - width * count : -1]
        for number in range(len(sizes) // width - 1):
            at += int.from_bytes(sizes[number * width : (number + 1) * width], "little")
            yield at


def _frame(data: bytes) -> tuple[int, ...]:
    bits = Bits(data.ljust(HEADER_BYTES, b"\0"))
    if bits.take(2) != MARKER:
        return ()
    profile = bits.take(1) | bits.take(1) << 1
    bits.take(profile == 3)
    if bits.take(1):  # shows a frame that was decoded before
        return ()
    inter, shown, resilient = bits.take(1), bits.take(1), bits.take(1)
    form: tuple[int, ...] = ()
    if not inter:
        bits.take(24)
        form = (_format(bits, profile),)
    else:
        intra = 0 if shown else bits.take(1)
        bits.take(0 if resilient else 2)
        if intra:
            bits.take(24)
            if profile:
                _format(bits, profile)
            bits.take(8)
        else:
            bits.take(8 + 3 * 4)
            if any(bits.take(1) for _ in range(3)):  # the size of a reference
                return ()
    return bits.take(16) + 1, bits.take(16) + 1, *form


def _format(bits: Bits, profile: int) -> int:
    """Return bit depth, color space, range and subsampling, as they are stored."""
    found = bits.take(profile >= 2) << 3 | (space := bits.take(3))
    rest = profile & 1 if space == RGB else 1 + 3 * (profile & 1)
    return found << 4 | bits.take(rest)
