"""Finds the files of an index that are damaged, truncated, empty, changed or missing, and quarantines them.

    problems = check("k400_val.parquet")            # existence, hash and packets
    problems = check("k400_val.parquet", deep=True) # also decodes every frame

The list is written to `k400_val.quarantine.json`, and `Index.load` skips these videos from then on. Each check starts
afresh, so a repaired file is used again. A variable frame rate is only reported: the index has the frame times.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from ..errors import UserError
from . import _frames, _parallel
from ._quarantine import quarantine_file
from .index import Index, UnreadableVideo, Video, scan


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A video and what is wrong with it; `quarantined` if it is skipped from now on."""

    path: Path
    reason: str
    quarantined: bool = True


def check(
    index: Path | str,
    *,
    deep: bool = False,
    workers: int | None = None,
    progress: bool = True,
    report: Callable[[Problem], None] | None = None,
) -> tuple[Problem, ...]:
    """Check every video of an index file and rewrite its quarantine list; return the problems, in index order.

    Variable frame rates are among the problems, but not quarantined. If nothing is quarantined, the old list is
    deleted. `deep` decodes every frame. `workers` defaults to the number of cores. `report` is called with each
    problem, before the list is written.

    Raises UserError, and leaves the old list, if none of the files exists (then they have moved, and are not damaged),
    a label is no class, or the list cannot be written.
    """
    path = Path(index)
    loaded = Index.load(path, quarantined_too=True)
    loaded.check_labels(unlabeled=True)
    videos, root = list(loaded.videos()), loaded.root
    if videos and not any(video.path.exists() for video in videos):
        raise UserError(
            f"{root}: none of the {len(videos)} files of {path.name} is there: move index and files back together, "
            "or index the data again"
        )
    found = _parallel.ordered(
        partial(_examine, deep=deep), videos, crashed=_crashed, title="checking", workers=workers, progress=progress
    )
    problems = [problem for problem in found if problem is not None]
    if report is not None:
        for problem in problems:
            report(problem)
    try:
        _quarantine(path, root, videos, problems)
    except OSError as error:
        raise UserError(
            f"{quarantine_file(path)}: cannot be written ({error.strerror}), so that these videos are still used: "
            "copy the index to another folder and check that"
        ) from None
    return tuple(problems)


def _quarantine(path: Path, root: Path, videos: list[Video], problems: list[Problem]) -> None:
    reasons = {problem.path: problem.reason for problem in problems if problem.quarantined}
    rows = [
        {"path": Path(os.path.relpath(video.path, root)).as_posix(), "hash": video.hash, "reason": reasons[video.path]}
        for video in videos
        if video.path in reasons
    ]
    if rows:
        partial_file = path.with_name(f".{path.name}.{os.getpid()}.quarantine")
        partial_file.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        os.replace(partial_file, quarantine_file(path))
    else:
        quarantine_file(path).unlink(missing_ok=True)


def _examine(video: Video, deep: bool) -> Problem | None:
    try:
        if scan(video.path).hash != video.hash:
            return Problem(path=video.path, reason="changed since it was indexed")
        if deep and (reason := _decode(video)):
            return Problem(path=video.path, reason=reason)
    except (UnreadableVideo, OSError) as error:
        return Problem(path=video.path, reason=str(error))
    if steps := _variable_steps(video):
        return Problem(path=video.path, reason=f"variable frame rate: {steps}", quarantined=False)
    return None


def _decode(video: Video) -> str:
    """Return why decoding all frames fails; "" if it does not."""
    frames = 0
    for path in _frames.files(video.path) if video.codec == "frames" else [video.path]:
        try:
            with av.open(str(path)) as container:
                stream = container.streams.best("video")
                if not isinstance(stream, av.VideoStream):
                    return "no video stream"
                stream.thread_type = (
                    "NONE"  # with threads, FFmpeg does not mark frames with concealed errors as corrupt
                )
                stream.codec_context.options = {"err_detect": "explode"}
                for frame in container.decode(stream):
                    if frame.is_corrupt:
                        return f"frame {frames} is corrupt"
                    frames += 1
        except FFmpegError as error:
            return f"cannot be decoded after frame {frames}: {error.strerror}"
    return "" if frames == len(video.pts) else f"{frames} frames decode, {len(video.pts)} are indexed"


def _variable_steps(video: Video) -> str:
    """Return the range of steps between frames, in words; "" if they differ only by the container's rounding."""
    steps = np.diff(video.pts)
    if video.codec == "frames" or not len(steps) or np.ptp(steps) <= max(2, 0.1 * float(np.median(steps))):
        return ""
    low, high = (float(step * video.time_base) * 1000 for step in (int(steps.min()), int(steps.max())))
    return f"steps of {low:.0f} to {high:.0f} ms"


def _crashed(video: Video) -> Problem:
    return Problem(path=video.path, reason="crashes or hangs the decoder")
