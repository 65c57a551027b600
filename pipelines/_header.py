"""What a stream's headers say of its pictures, with none of them decoded.

FFmpeg decodes the first picture of a file to learn its format, which takes longer than all the rest of a scan. Opened
with `UNDECODED` it does not. The decoder is then shown the beginning of that picture: it reads the headers and stops.

    packet of a key frame (H.264)   | size | parameters | size | slice: header, macroblocks … |
    what the decoder is shown                           | size | slice: header, mac|
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import av
from av.error import FFmpegError

UNDECODED = {"codec_whitelist": "none"}
CODECS = ("h264", "vp9")  # the others' format is mostly found without a picture
ENOUGH = 256  # bytes of a picture that hold its headers, mostly; too many of VP9, and it is decoded after all
SLICES = (1, 5)  # H.264 units that hold a picture's part


def read(stream: av.VideoStream, packet: av.Packet) -> av.VideoCodecContext | None:
    """Return a decoder that knows size, format and profile of the pictures; None where the headers do not tell."""
    ours = stream.codec_context
    if ours.codec.canonical_name not in CODECS:
        return None
    shown = bytes(packet)
    if ours.codec.canonical_name == "h264":
        shown = _slice(shown, ours.extradata or b"")
    context = av.CodecContext.create(ours.codec.name, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.extradata, context.thread_count = ours.extradata, 1
    context.colorspace, context.color_range = ours.colorspace, ours.color_range  # the container's, if it says
    context.options = {"ec": "0"}  # the missing rest of the picture is not to be made up
    with suppress(FFmpegError):  # which must come: the picture is cut off
        context.decode(av.Packet(shown[:ENOUGH]))
    return context if context.pix_fmt and context.width else None


def shown_first(context: av.VideoCodecContext, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Yield the packets, of which the decoder has decoded the first: until then it knows no coded size."""
    context.thread_count = 1
    for number, packet in enumerate(packets):
        if not number and packet.size:
            with suppress(FFmpegError):  # a damaged picture: the size stays unknown
                context.decode(packet)
        yield packet


def _slice(packet: bytes, configuration: bytes) -> bytes:
    """Return a packet's first slice, ended early (ISO 14496-15, 5.3); nothing where the units have no length fields."""
    if len(configuration) < 5 or configuration[0] != 1:
        return b""
    prefix, at = (configuration[4] & 3) + 1, 0
    while at + prefix < len(packet):
        size = int.from_bytes(packet[at : at + prefix], "big")
        unit = packet[at + prefix : at + prefix + min(size, ENOUGH - prefix)]
        if unit and unit[0] & 31 in SLICES:
            return len(unit).to_bytes(prefix, "big") + unit
        at += prefix + size
    return b""
