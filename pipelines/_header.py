"""Reads size, format and profile of a stream from its headers, without decoding a frame.

FFmpeg decodes the first frame of a file to learn its format, which takes longer than the rest of a scan. Opened with
`UNDECODED` it does not. The decoder is then given only the beginning of that frame: it parses the headers and fails.

    packet of a key frame (H.264)   | size | parameters | size | slice: header, macroblocks … |
    what the decoder is given                           | size | slice: header, mac|
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import av
from av.error import FFmpegError

UNDECODED = {"codec_whitelist": "none"}
CODECS = ("h264", "vp9")  # for the others, FFmpeg mostly needs no frame
HEADER_BYTES = 256  # of a frame, which mostly contain its headers; with many more, VP9 decodes the frame after all
SLICES = (1, 5)  # NAL unit types of H.264 slices


def read(stream: av.VideoStream, packet: av.Packet) -> av.VideoCodecContext | None:
    """Return a decoder context with size, format and profile of the frames, given the stream's first packet.

    None if the headers do not hold them, or the codec is not one of `CODECS`.
    """
    ours = stream.codec_context
    if ours.codec.canonical_name not in CODECS:
        return None
    shown = bytes(packet)
    if ours.codec.canonical_name == "h264":
        shown = _slice(shown, ours.extradata or b"")
    context = av.CodecContext.create(ours.codec.name, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.extradata, context.thread_count = ours.extradata, 1
    context.colorspace, context.color_range = ours.colorspace, ours.color_range  # the container's, if any
    context.options = {"ec": "0"}  # no error concealment for the missing rest
    with suppress(FFmpegError):  # certain, since the frame is incomplete
        context.decode(av.Packet(shown[:HEADER_BYTES]))
    return context if context.pix_fmt and context.width else None


def shown_first(context: av.VideoCodecContext, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Yield all packets, each unchanged; the first is decoded before, so that the context knows the coded size."""
    context.thread_count = 1
    for number, packet in enumerate(packets):
        if not number and packet.size:
            with suppress(FFmpegError):  # a corrupt frame: the size stays unknown
                context.decode(packet)
        yield packet


def _slice(packet: bytes, configuration: bytes) -> bytes:
    """Return the beginning of a packet's first slice (ISO 14496-15, 5.3); empty if NAL units have no length fields."""
    if len(configuration) < 5 or configuration[0] != 1:
        return b""
    prefix, at = (configuration[4] & 3) + 1, 0
    while at + prefix < len(packet):
        size = int.from_bytes(packet[at : at + prefix], "big")
        unit = packet[at + prefix : at + prefix + min(size, HEADER_BYTES - prefix)]
        if unit and unit[0] & 31 in SLICES:
            return len(unit).to_bytes(prefix, "big") + unit
        at += prefix + size
    return b""
