"""Tells from a stream's headers whether its size, pixel format or colors change in mid-stream.

PyAV follows such a change by itself, but DALI assumes that all frames are like the first. Of intra-only codecs, which
DALI leaves to software, only MJPEG is looked at: FFmpeg takes a picture for half of an interlaced one if it is lower
than the container says, unless it has shown a higher one. Others carry the headers in key frames, or the container
hands out new ones beside a packet.

    packets   | SPS key | . | . | SPS key | . |         H.264, HEVC; MPEG-2 and AV1: sequence header, MPEG-4: VOL
              | key, 320 x 240 | . | key, 160 x 120 |   VP8, VP9; VP9 may change between key frames, too
"""

from __future__ import annotations

from collections.abc import Iterator

import av

from . import _nal, _vp9
from ._nal import START

HEADER_BYTES = 4096  # of a packet, among which its headers lie
SPS = {"h264": 7, "hevc": 33}
SLICES = {"h264": range(1, 6), "hevc": range(32)}
MPEG2_SEQUENCE, MPEG4_VOL = range(0xB3, 0xB4), range(0x20, 0x30)
MPEG2_BYTES = 5  # of a sequence header, which hold size, aspect and rate; what follows may vary
AV1_SEQUENCE = 1
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg")
SIZED = ("vp8", "vp9", "mjpeg")  # whose headers are looked at for the size, not compared as a whole


class Watch:
    """Compares the headers in a stream's packets with those in its container and in its first packet."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self.codec, self.extradata = codec, extradata or b""
        self.changed = False
        self._known: set[bytes] = set()
        self._size: tuple[int, ...] = ()

    def through(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        """Yield all packets, each unchanged; `changed` is true at the end if one changes the stream."""
        if self.codec not in CODECS:
            yield from packets
            return
        if self.codec not in SIZED:
            self._known |= self._stored()
        every = self.codec == "vp9"
        for number, packet in enumerate(packets):
            if (every or packet.is_keyframe) and packet.size:
                self._look(packet, first=not number)
            yield packet

    def _look(self, packet: av.Packet, first: bool) -> None:
        if self.codec in SIZED:
            size = {"vp8": _vp8, "vp9": _vp9.size, "mjpeg": _jpeg}[self.codec](packet)
            self._size = self._size or size
            self.changed |= size != self._size[: len(size)]
        else:
            found = self._headers(memoryview(packet)[:HEADER_BYTES].tobytes())
            if packet.has_sidedata("new_extradata"):
                self.extradata = bytes(packet.get_sidedata("new_extradata"))
                found |= self._stored()
            self.changed |= not (first or found <= self._known)
            self._known |= found

    def _stored(self) -> set[bytes]:
        """Return the headers in the extradata."""
        if self.codec in SPS:
            return {
                unit.rstrip(b"\0")
                for unit in _nal.sets(self.codec, self.extradata)
                if self._kind(unit) == SPS[self.codec]
            }
        return self._headers(self.extradata[4:] if self.codec == "av1" else self.extradata)

    def _kind(self, unit: bytes) -> int:
        return unit[0] & 31 if self.codec == "h264" else unit[0] >> 1 & 63

    def _headers(self, data: bytes) -> set[bytes]:
        if self.codec == "av1":
            return {payload for kind, payload in _obus(data) if kind == AV1_SEQUENCE}
        if self.codec == "mpeg4":
            return {unit for unit in _by_start_code(data) if unit[0] in MPEG4_VOL}
        if self.codec == "mpeg2video":
            return {unit[:MPEG2_BYTES] for unit in _by_start_code(data) if unit[0] in MPEG2_SEQUENCE}
        prefix = 0 if data.startswith((START, b"\0" + START)) else _nal.length_size(self.codec, self.extradata)
        found = set()
        for unit in _by_length(data, prefix) if prefix else _by_start_code(data):
            kind = self._kind(unit)
            if kind in SLICES[self.codec]:
                break
            if kind == SPS[self.codec]:
                found.add(unit)
        return found


def _by_length(data: bytes, prefix: int) -> Iterator[bytes]:
    at = 0
    while at + prefix < len(data):
        size = int.from_bytes(data[at : at + prefix], "big")
        if size:
            yield data[at + prefix : at + prefix + size].rstrip(b"\0") or b"\0"
        at += prefix + size


def _by_start_code(data: bytes) -> Iterator[bytes]:
    return (unit.rstrip(b"\0") for unit in data.split(START)[1:] if unit.rstrip(b"\0"))


def _obus(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and payload of each AV1 OBU (AV1 bitstream specification, 5.3)."""
    at = 0
    while at < len(data):
        kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + extended
        size = shift = 0
        while sized and at < len(data):
            size |= (data[at] & 127) << shift
            shift, at, sized = shift + 7, at + 1, data[at] >> 7
        yield kind, data[at : at + size]
        at += size or len(data)


def _vp8(packet: av.Packet) -> tuple[int, ...]:
    """Return width and height, with their scaling bits, of a key frame (RFC 6386, 9.1); () of another one."""
    data = memoryview(packet)[:10]
    return tuple(data[6:10]) if len(data) == 10 and not data[0] & 1 else ()


def _jpeg(packet: av.Packet) -> tuple[int, ...]:
    """Return height and width of a JPEG picture (ITU-T T.81, B.2.2); () if they are not among the first bytes."""
    data, at = memoryview(packet)[:HEADER_BYTES].tobytes(), 2
    while at + 9 < len(data) and data[at] == 0xFF:
        kind, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= kind < 0xD0 and kind not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + size
    return ()
