"""Diagnostics for a loss or gradient that is not finite: the videos of the batch, and a dump to reproduce it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from ...pipelines import Batch
from ...pipelines.index import Index
from .engine import Step

SHOWN = 8


def nonfinite_videos(step: Step, batches: Sequence[Batch], index: Index) -> list[str]:
    """Return all video files of this rank's micro-batches whose loss is not finite; of all if only the gradient is."""
    only_gradient = math.isfinite(step.loss)
    bad = [batch for loss, batch in zip(step.losses, batches, strict=True) if only_gradient or not math.isfinite(loss)]
    return [path for batch in bad for path in _files(batch, index)]


def name(files: Sequence[Sequence[str]]) -> str:
    """Describe the files of all ranks in one line: the first 8 by name, the rest by number."""
    paths = [path for rank in files for path in rank]
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"batch of {', '.join(paths[:SHOWN])}{more}"


def dump(path: Path, losses: Sequence[float], batches: Sequence[Batch], index: Index, lr: float) -> None:
    """Save this rank's losses, files and labels, and the pixels of its last micro-batch (earlier ones are freed)."""
    content = {
        "losses": list(losses),
        "lr": lr,
        "files": [_files(batch, index) for batch in batches],
        "labels": [batch.label.cpu() for batch in batches],
        "clip": batches[-1].clip.cpu(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)


def _files(batch: Batch, index: Index) -> list[str]:
    return [str(index[int(row)].path) for row in batch.video]
