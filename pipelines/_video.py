"""The index's record of one video, and what stands for a file that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

Label = int | tuple[int, ...]
SQUARE = "1"  # a pixel aspect


class UnreadableVideo(Exception):  # noqa: N818 (it skips one video, and is no failure of the program)
    """A file that cannot be indexed or decoded, or is not the file that was indexed. The message omits the path."""


def reason(error: Exception) -> str:
    """Return in one line why a video cannot be read: of an unforeseen exception with its type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (UnreadableVideo, OSError)) else f"{type(error).__name__}: {text}"


class SkippedVideo(NamedTuple):
    """A video that was skipped, and the reason.

    `path` includes the root in `Stream.skipped`. In `Index.skipped` it mostly is relative to the root; a video that is
    missing on disk is named as its list names it, mostly without suffix.
    """

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Video:
    """One row of the index.

    Times: `pts` (int64, in units of `time_base`) and `key_frames` (int32, frame numbers) cover the whole file in
    presentation order. `pts` ascend; where the file's own do not, they are repaired. The video is `frames` frames long
    and starts at the file's frame `offset`, which is 0 unless a list trims the file. `duration` is in seconds, of these
    frames only; 0 where there are no times.

    Pixels: `width` and `height` are the stored frame's, before it is mirrored from left to right (if
    `flipped`) and turned by `rotation` (clockwise: 0, 90, 180 or 270 degrees). `pixel_aspect` is a pixel's width to its
    height; pixels that are not square are shown as stored.
    `coded_width` and `coded_height` include the padding to whole blocks; 0 where the headers do not say.
    `color_matrix` and `color_range` are FFmpeg's names of the file's color tags (`bt709`, …; `tv`, `pc`), or `unknown`.
    `changes`: size, format or colors change in mid-stream (frames are then resampled to `width` and `height`). `sited`:
    the container says where between the pixels chroma lies. Both are looked for only where DALI may decode the file.

    File: `size` in bytes, `hash` of its contents, `stream` the video stream's number in the container, `hidden` the
    number of packets that are never shown. `codec="frames"` is a folder of JPEG or PNG frames.

    Packets: `packets` is empty for a plain file, whose packets sorted by time are its frames. Another one was decoded
    to be indexed: then `packets` (int32) holds each frame's packet, by its number in decoding order (see `_shown`).

    `label` is a class number, or a tuple of them in a multi-label set; -1 and () mean unknown. `group` names what the
    video was cut from, if the data set tells; videos of one group are not independent of each other.
    """

    path: Path
    label: Label = -1
    frames: int
    pts: np.ndarray
    time_base: Fraction
    key_frames: np.ndarray
    width: int
    height: int
    codec: str
    profile: str
    pix_fmt: str
    duration: float
    size: int
    hash: str
    rotation: int = 0
    flipped: bool = False
    pixel_aspect: str = SQUARE
    stream: int = 0
    offset: int = 0
    hidden: int = 0
    coded_width: int = 0
    coded_height: int = 0
    color_matrix: str = "unknown"
    color_range: str = "unknown"
    packets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    changes: bool = False
    sited: bool = False
    group: str = ""

    @property
    def fps(self) -> float:
        """Mean frames per second; 0 where the duration is unknown."""
        return self.frames / self.duration if self.duration > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Span:
    """The part of a file that belongs to the video: `start` inclusive, `end` exclusive (None: the end of the file).

    Both are in `unit`: seconds after the file's first frame, or frame numbers from 0. Raises ValueError unless
    0 <= start < end.
    """

    start: float = 0.0
    end: float | None = None
    unit: Literal["seconds", "frames"] = "seconds"

    def __post_init__(self) -> None:
        if not 0 <= self.start < (self.end if self.end is not None else float("inf")):
            raise ValueError(f"start={self.start} must lie before end={self.end}")


def trim(video: Video, span: Span) -> Video:
    """Return a video of a whole file (not trimmed before) restricted to a span of the file.

    `duration` shrinks with the number of frames. Raises UnreadableVideo if no frame lies in the span, or it is in
    seconds and the frames carry no times.
    """
    end = float("inf") if span.end is None else span.end
    times = np.arange(len(video.pts))
    if span.unit == "seconds":
        if video.duration <= 0:
            raise UnreadableVideo("its frames carry no times, so it cannot be trimmed by seconds")
        times = (video.pts - video.pts[0]) * float(video.time_base)
    inside = np.flatnonzero((times >= span.start) & (times < end))
    if not len(inside):
        raise UnreadableVideo(f"no frame lies in {span.start}..{span.end} {span.unit}")
    part = video.duration * len(inside) / len(video.pts)
    return replace(video, offset=int(inside[0]), frames=len(inside), duration=part)
