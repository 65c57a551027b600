"""Finds the files of an index that are broken, truncated, empty, changed or gone, and bars them from use.

    problems = check("k400_val.parquet")            # sizes, hashes and packets
    problems = check("k400_val.parquet", deep=True) # and every frame decoded

What is found is written to `k400_val.quarantine.json`; `Index.load` leaves these videos out from then on. A later check
begins afresh, so that a mended file returns. A variable frame rate is reported, not barred: the index knows its times.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from ..errors import UserError
from . import _frames, _parallel
from .index import Index, Unreadable, Video, quarantine_file, scan


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A video and what is wrong with it; `barred` says that it was put into quarantine."""

    path: Path
    reason: str
    barred: bool = True


def check(
    index: Path | str, *, deep: bool = False, workers: int | None = None, progress: bool = True
) -> tuple[Problem, ...]:
    """Check every video of an index file and rewrite its quarantine list; return what was found, in index order.

    An index none of whose files is there is a `UserError`: they have moved, and none is at fault.
    """
    path = Path(index)
    quarantine_file(path).unlink(missing_ok=True)
    loaded = Index.load(path)
    videos, root = list(loaded.videos()), loaded.root
    if videos and not any(video.path.exists() for video in videos):
        raise UserError(
            f"{root}: none of the {len(videos)} files of {path.name} is there: put index and files back as they lay "
            "to each other, or index the data again"
        )
    reasons = _parallel.ordered(
        partial(_examine, deep=deep), videos, crashed=_crashed, title="checking", workers=workers, progress=progress
    )
    problems = [
        Problem(path=video.path, reason=reason, barred=not reason.startswith(VARIABLE))
        for video, reason in zip(videos, reasons, strict=True)
        if reason
    ]
    _bar(path, root, videos, problems)
    return tuple(problems)


VARIABLE = "variable frame rate"


def _bar(path: Path, root: Path, videos: list[Video], problems: list[Problem]) -> None:
    reasons = {problem.path: problem.reason for problem in problems if problem.barred}
    rows = [
        {"path": Path(os.path.relpath(video.path, root)).as_posix(), "hash": video.hash, "reason": reasons[video.path]}
        for video in videos
        if video.path in reasons
    ]
    if rows:
        partial_file = path.with_name(f".{path.name}.{os.getpid()}.quarantine")
        partial_file.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(partial_file, quarantine_file(path))


def _examine(video: Video, deep: bool) -> str:
    """Return what is wrong with a video, or nothing."""
    try:
        now = scan(video.path)
        if now.hash != video.hash:
            return "changed since it was indexed"
        if deep and (trouble := _decode(video)):
            return trouble
    except (Unreadable, OSError) as error:
        return str(error)
    return f"{VARIABLE}: {_spread(video)}" if _spread(video) else ""


def _decode(video: Video) -> str:
    frames = 0
    for path in _frames.files(video.path) if video.codec == "frames" else [video.path]:
        try:
            with av.open(str(path)) as container:
                stream = container.streams.best("video")
                if not isinstance(stream, av.VideoStream):
                    return "no video stream"
                stream.thread_type = "NONE"  # with threads, a frame that was painted over is not marked corrupt
                stream.codec_context.options = {"err_detect": "explode"}
                for frame in container.decode(stream):
                    if frame.is_corrupt:
                        return f"frame {frames} is corrupt"
                    frames += 1
        except FFmpegError as error:
            return f"cannot be decoded after frame {frames}: {error.strerror}"
    return "" if frames == len(video.pts) else f"{frames} frames decode, {len(video.pts)} are indexed"


def _spread(video: Video) -> str:
    """Return the shortest and longest step between frames, if they differ by more than the container's rounding."""
    steps = np.diff(video.pts)
    if video.codec == "frames" or not len(steps) or np.ptp(steps) <= max(2, 0.1 * float(np.median(steps))):
        return ""
    low, high = (float(step * video.time_base) * 1000 for step in (int(steps.min()), int(steps.max())))
    return f"steps of {low:.0f} to {high:.0f} ms"


def _crashed(video: Video) -> str:
    return "crashes or hangs the decoder"
