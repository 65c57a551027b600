"""`reelbench eval`: one checkpoint, one index, one protocol of views, by one process or by several ranks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from torch import Tensor

from .. import models, pipelines
from ..pipelines.index import Index
from ..result import Metric
from ..spec import Clip, Views
from .measuring.accuracy import Predictions, evaluate, scores
from .measuring.execution import autocast
from .progress import bar
from .training import engine as ds

Logits = dict[int, dict[int, list[float]]]


def test(
    model: str, checkpoint: Path, data: Path, views: str | None, device: Literal["cpu", "cuda"], precision: str,
    batch: int, workers: int, dump: Path | None, clip: Clip | None,
) -> dict[str, Metric]:  # fmt: skip
    """Return the index's metrics; with `dump`, write each video's scores and each view's logits to a parquet file.

    Started by a launcher, every rank tests its share of the videos, each video once whatever the number of ranks; the
    first one returns the metrics of all, the others nothing.
    """
    variant = models.find(model)
    protocol = Views.parse(views) if views else variant.views
    index = Index.load(data)
    index.verify()
    world = ds.connect(device) if "RANK" in os.environ else ds.World(0, 1, torch.device(device))
    network = models.build(model, num_classes=len(index.classes), checkpoint=checkpoint).to(world.device).eval()
    logits: list[Tensor] = []

    def forward(clip: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(world.device, precision):
            found = network(clip)
        if dump is not None:
            logits.append(found.float().cpu())
        return found

    share = len(range(world.rank, len(index), world.size))
    with (
        pipelines.open(
            index, clip=clip or variant.clip, views=protocol, batch=batch, device=device, workers=workers,
            sampler=pipelines.Sampler(rank=world.rank, world=world.size),
        ) as stream,
        bar(Console(file=sys.stderr, quiet=not world.leads)) as progress,
    ):  # fmt: skip
        task = progress.add_task("videos", total=share)
        noted = _Noted(stream)
        mine = evaluate(forward, noted, progress=lambda done: progress.update(task, completed=done))
    by_view = noted.by_view(logits)
    if "RANK" in os.environ:
        parts, by_views = ds.gather(mine), ds.gather(by_view)
        ds.disconnect()
        if not world.leads:
            return {}
        mine, by_view = Predictions.join(parts), {video: rows for part in by_views for video, rows in part.items()}
    for path, reason in mine.broken:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    if dump is not None:
        _save(mine, by_view, dump, index)
    return scores(mine, len(index.classes), str(protocol))


class _Noted:
    """A stream that notes which video and view each row of its batches was."""

    def __init__(self, stream: pipelines.Stream) -> None:
        self._stream = stream
        self._rows: list[tuple[int, int]] = []
        self.metric, self.listed, self.classes = stream.metric, stream.listed, stream.classes

    @property
    def broken(self) -> list[tuple[str, str]]:
        """The (path, reason) of the videos that could not be read."""
        return [(path, reason) for path, reason in self._stream.broken]

    def epoch(self) -> Iterator[pipelines.Batch]:
        """Return the batches."""
        for batch in self._stream.epoch():
            self._rows += zip(batch.video.tolist(), batch.view.tolist(), strict=True)
            yield batch

    def by_view(self, logits: list[Tensor]) -> Logits:
        """Return the logits of the batches by video and view."""
        found: Logits = {}
        values = (row for part in logits for row in part.tolist())
        for (video, view), row in zip(self._rows if logits else [], values, strict=True):
            found.setdefault(video, {})[view] = row
        return found


def _save(predictions: Predictions, logits: Logits, path: Path, index: Index) -> None:
    """Add to the file of scores a column `view_logits`: for every video, views x classes."""
    import pandas as pd

    predictions.save(path, [str(video.path) for video in index.videos()])
    frame = pd.read_parquet(path)
    frame["view_logits"] = [
        [rows[view] for view in sorted(rows)] for rows in (logits[v] for v in predictions.video.tolist())
    ]
    frame.to_parquet(path)
