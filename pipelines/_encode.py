"""Encodes frames to a video file, reproducibly: one thread, no dates or random identifiers in the headers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags

from ..errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class Codec:
    """How to write a codec: FFmpeg's encoder, the file suffix, the pixel format, and the encoder's options."""

    encoder: str
    suffix: str
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)


_VPX = {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0", "lag-in-frames": "0", "auto-alt-ref": "0"}
CODECS = {
    "vp9": Codec(encoder="libvpx-vp9", suffix=".webm", options=_VPX),
    "vp8": Codec(encoder="libvpx", suffix=".webm", options={**_VPX, "b": "1M"}),
    "h264": Codec(encoder="libx264", suffix=".mp4", options={"preset": "veryfast", "crf": "23", "bf": "2"}),
    "hevc": Codec(
        encoder="libx265",
        suffix=".mp4",
        options={"preset": "ultrafast", "crf": "26", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    ),
    "mpeg4": Codec(encoder="mpeg4", suffix=".avi", options={"qscale": "4", "bf": "2"}),
    "mjpeg": Codec(encoder="mjpeg", suffix=".avi", pix_fmt="yuvj420p", options={"qmin": "3", "qmax": "3"}),
    "av1": Codec(
        encoder="libsvtav1", suffix=".mkv", options={"preset": "11", "crf": "35", "svtav1-params": "lp=1:enable-tf=0"}
    ),
}


def find(codec: str) -> Codec:
    """Return a codec by its name. Raises UserError if it is unknown, or this PyAV has no encoder for it."""
    if codec not in CODECS:
        raise unknown("codec", codec, CODECS)
    if CODECS[codec].encoder not in av.codecs_available:
        raise UserError(f"codec {codec}: this PyAV has no {CODECS[codec].encoder}: install the wheel from PyPI")
    return CODECS[codec]


def encode(
    path: Path, frames: Iterable[np.ndarray | av.VideoFrame], *, codec: str, fps: Fraction | int, gop: int
) -> None:
    """Encode frames to `path`, which is written atomically. `gop` is the key-frame interval in frames.

    The container is that of the path's suffix: use `find(codec).suffix`. Arrays are uint8 RGB `H W 3`, shown at `fps`;
    video frames keep their own times and color tags. All frames must have the first one's size. Raises UserError if
    the codec cannot be written.
    """
    how = find(codec)
    os.environ.setdefault("SVT_LOG", "1")  # else the AV1 encoder fills stderr
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with av.open(str(partial), "w", options={"fflags": "+bitexact"}) as container:
        stream: Any = None
        for frame in frames:
            timed = isinstance(frame, av.VideoFrame)
            picture = frame if timed else av.VideoFrame.from_ndarray(frame, format="rgb24")
            if stream is None:
                stream = _open(container, how, picture, fps, gop)
                stream.codec_context.time_base = picture.time_base if timed else 1 / Fraction(fps)
            container.mux(stream.encode(picture))
        if stream is not None:
            container.mux(stream.encode(None))
    os.replace(partial, path)


def _open(container: Any, how: Codec, picture: av.VideoFrame, fps: Fraction | int, gop: int) -> Any:
    stream = container.add_stream(how.encoder, rate=fps, options={**how.options, "g": str(gop), "threads": "1"})
    stream.height, stream.width = picture.height, picture.width
    stream.pix_fmt = how.pix_fmt
    stream.codec_context.colorspace, stream.codec_context.color_range = picture.colorspace, picture.color_range
    stream.codec_context.flags |= Flags.bitexact
    return stream
