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

import numpy as np
from av.error import FFmpegError

from ..errors import UserError
from . import _frames, _parallel, _shown
from ._quarantine import quarantine_file
from .index import Index, UnreadableVideo, Video, scan

STRICT = {"err_detect": "explode"}  # of FFmpeg's decoders: by default they conceal errors


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
        if deep and (reason := _undecodable(video)):
            return Problem(path=video.path, reason=reason)
    except (UnreadableVideo, OSError) as error:
        return Problem(path=video.path, reason=str(error))
    if steps := _variable_steps(video):
        return Problem(path=video.path, reason=f"variable frame rate: {steps}", quarantined=False)
    return None


def _undecodable(video: Video) -> str:
    """Return why decoding all frames fails; "" if it does not."""
    try:
        if video.codec == "frames":
            for number, path in enumerate(_frames.files(video.path)):
                found = _shown.learn(path, 0, STRICT)
                if found.failed or found.corrupt:
                    return f"frame {number} cannot be decoded"
            return ""
        return _damage(video)
    except FFmpegError as error:
        return f"cannot be decoded: {error.strerror}"


def _damage(video: Video) -> str:
    """Return what a decode that stops at any error finds; pictures whose references were cut away do not count."""
    strict = _shown.learn(video.path, video.stream, STRICT)
    failed = dict.fromkeys(strict.corrupt, "it is corrupt") | strict.failed
    if not failed and _same(strict, video):
        return ""
    shown = _shown.learn(video.path, video.stream)
    places = {packet: frame for frame, packet in enumerate(shown.packets.tolist())}
    for packet, reason in sorted(failed.items()):
        frame = places.get(packet)
        if frame is not None and not _leads(packet, frame, shown):
            return f"frame {frame} cannot be decoded: {reason}"
    if len(shown.pts) != len(video.pts):
        return f"{len(shown.pts)} frames decode, {len(video.pts)} are indexed"
    return "" if _same(shown, video) else "its frames have another order than in the index: index the data again"


def _same(shown: _shown.Shown, video: Video) -> bool:
    """Whether a decode showed the frames of the index."""
    if len(video.packets):
        return np.array_equal(shown.packets, video.packets)
    return shown.time_base == video.time_base and np.array_equal(shown.pts, video.pts)


def _leads(packet: int, frame: int, shown: _shown.Shown) -> bool:
    """Whether a frame is decoded after the key frame before it, but shown before that: it needs the group before."""
    keys = shown.key_frames[shown.packets[shown.key_frames] < packet]
    return bool(len(keys) and keys[-1] > frame)


def _variable_steps(video: Video) -> str:
    """Return the range of steps between frames, in words; "" if they differ only by the container's rounding."""
    steps = np.diff(video.pts)
    if video.codec == "frames" or not len(steps) or np.ptp(steps) <= max(2, 0.1 * float(np.median(steps))):
        return ""
    low, high = (float(step * video.time_base) * 1000 for step in (int(steps.min()), int(steps.max())))
    return f"steps of {low:.0f} to {high:.0f} ms"


def _crashed(video: Video) -> Problem:
    return Problem(path=video.path, reason="crashes or hangs the decoder")
