"""A folder of JPEG frames as a video: `codec="frames"`, one time unit per frame, all key frames, duration 0."""

from __future__ import annotations

import hashlib
import io
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from . import _colors
from ._video import Label, UnreadableVideo, Video

# `00001.jpg` (Something-Something v1, Jester) and `img_00001.jpg` (raw frames), not `flow_x_00001.jpg` beside them.
NAME = re.compile(r"(?:img_|image_|frame)?(\d+)\.jpe?g", re.IGNORECASE)


def files(folder: Path) -> list[Path]:
    """Return a folder's frame files, sorted by the number in their names; files not named like `NAME` are left out."""
    numbered = ((NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return [path for _, path in sorted((int(found[1]), path) for found, path in numbered if found)]


def remux(pictures: list[bytes]) -> np.ndarray:
    """Return an MJPEG file (AVI, as uint8 bytes) of these JPEG files (at least one), without re-encoding them."""
    file = io.BytesIO()
    with av.open(io.BytesIO(pictures[0]), mode="r") as first, av.open(file, mode="w", format="avi") as target:
        stream = target.add_stream_from_template(first.streams.video[0])
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, number, number, True
            target.mux(packet)
    return np.frombuffer(file.getbuffer(), dtype=np.uint8)


def scan(folder: Path, label: Label = -1) -> Video:
    """Return the index entry of a folder of JPEG frames; size and colors are read from the first frame.

    Raises UnreadableVideo if there are no frames, one is not a complete JPEG (start and end markers), or the first
    cannot be opened.
    """
    frames = files(folder)
    if not frames:
        raise UnreadableVideo("no frames named 00001.jpg or img_00001.jpg")
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    for frame in frames:
        data = frame.read_bytes()
        if data[:2] != b"\xff\xd8" or b"\xff\xd9" not in data[-64:]:
            raise UnreadableVideo(f"{frame.name} is no complete JPEG")
        digest.update(data)
        size += len(data)
    try:
        with av.open(str(frames[0])) as picture:
            context = picture.streams.video[0].codec_context
            width, height, pix_fmt = context.width, context.height, context.pix_fmt or ""
            colors = _colors.tags(context)
    except FFmpegError as error:
        raise UnreadableVideo(f"{frames[0].name} cannot be read: {error.strerror}") from error
    return Video(
        path=folder,
        label=label,
        frames=len(frames),
        pts=np.arange(len(frames), dtype=np.int64),
        time_base=Fraction(1),
        key_frames=np.arange(len(frames), dtype=np.int32),
        width=width,
        height=height,
        codec="frames",
        profile="",
        pix_fmt=pix_fmt,
        duration=0.0,
        size=size,
        hash=digest.hexdigest(),
        color_matrix=colors["color_matrix"],
        color_range=colors["color_range"],
    )
