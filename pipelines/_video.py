"""The record of one video, and the reasons why a file has none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

Label = int | tuple[int, ...]


class Unreadable(Exception):  # noqa: N818 (it is a finding, kept in the index, not a failure)
    """A file that cannot be used as a video; the message is the reason, without the path."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """A row of the index.

    `pts` (int64, units of `time_base`) and `key_frames` (int32) describe the whole file in presentation order: `pts[i]`
    is the time of the file's i-th shown frame. The video itself is the span of `frames` frames that begins at the
    file's frame `offset`, which is 0 except where a list trims its files: frame `i` of the video is frame `offset + i`
    of the file. `width` and `height` are those of the stored picture, before `rotation` (clockwise: 0, 90, 180 or 270
    degrees); `coded_width` and `coded_height` include the margin that an encoder adds to fill its blocks and a decoder
    cuts off, and are 0 where the headers do not tell. `stream` is the container's stream number. `hidden` counts
    packets that are never shown, which a decoder that numbers packets counts too. `codec="frames"` is a folder of JPEG
    frames. `color_matrix` and `color_range` are FFmpeg's names of what the pictures are tagged with (`bt709`,
    `smpte170m`, …; `tv`, `pc`), or `unknown`. `label` is a class number, or a tuple of them in a multi-label set; -1
    and () mean unknown.
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
    stream: int = 0
    offset: int = 0
    hidden: int = 0
    coded_width: int = 0
    coded_height: int = 0
    color_matrix: str = "unknown"
    color_range: str = "unknown"

    @property
    def fps(self) -> float:
        """Mean frames a second over the span; 0 where the duration is unknown."""
        return self.frames / self.duration if self.duration > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Span:
    """The part of a file that a trimmed list means: from `start` up to, not including, `end` (None: to its end)."""

    start: float = 0.0
    end: float | None = None
    unit: Literal["seconds", "frames"] = "seconds"

    def __post_init__(self) -> None:
        if not 0 <= self.start < (self.end if self.end is not None else float("inf")):
            raise ValueError(f"start={self.start} must lie before end={self.end}")


def trim(video: Video, span: Span) -> Video:
    """Return the video restricted to a span; one without a single frame is `Unreadable`."""
    end = float("inf") if span.end is None else span.end
    times = np.arange(len(video.pts))
    if span.unit == "seconds":
        if video.duration <= 0:
            raise Unreadable("its frames carry no times, so it cannot be trimmed by seconds")
        times = (video.pts - video.pts[0]) * float(video.time_base)
    inside = np.flatnonzero((times >= span.start) & (times < end))
    if not len(inside):
        raise Unreadable(f"no frame lies in {span.start}..{span.end} {span.unit}")
    part = video.duration * len(inside) / len(video.pts)
    return replace(video, offset=int(inside[0]), frames=len(inside), duration=part)
