"""`reelbench eval`: one checkpoint, one index, one protocol of views, by one process or by several ranks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from rich.console import Console
from torch import Tensor

from .. import models, pipelines
from ..errors import unknown
from ..pipelines.index import Index
from ..result import Metric
from ..spec import Arithmetic, Clip, Views
from .measuring import execution
from .measuring.accuracy import Predictions, evaluate, scores
from .progress import bar
from .training import engine as ds

Logits = dict[int, dict[int, list[float]]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is tested, and how: `views` and `clip` are the model's own where they are None; `batch` counts videos.

    Each video's scores and each view's logits go to the parquet file `dump`.
    """

    model: str
    checkpoint: Path
    data: Path
    views: Views | None = None
    clip: Clip | None = None
    precision: Arithmetic = "fp32"
    batch: int = 8
    device: Literal["cpu", "cuda"] = "cpu"
    workers: int = 2
    dump: Path | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(Arithmetic):
            raise unknown("precision", self.precision, get_args(Arithmetic))


def test(asked: Evaluation) -> dict[str, Metric]:
    """Return the index's metrics.

    Started by a launcher, every rank tests its share of the videos, each video once whatever the number of ranks; the
    first one returns the metrics of all, the others nothing.
    """
    variant = models.find(asked.model)
    protocol, device = asked.views or variant.views, asked.device
    index = Index.load(asked.data)
    index.verify()
    world = ds.connect(device) if "RANK" in os.environ else ds.World(0, 1, torch.device(device))
    network = models.build(asked.model, num_classes=len(index.classes), checkpoint=asked.checkpoint)
    network = network.to(world.device).eval()
    execution.set_up(asked.precision, "eager", world.device)
    run = execution.in_precision(execution.cast(network, asked.precision), asked.precision, world.device)
    logits: list[Tensor] = []

    def forward(clip: Tensor) -> Tensor:
        found = run(clip)
        if asked.dump is not None:
            logits.append(found.float().cpu())
        return found

    share = len(range(world.rank, len(index), world.size))
    with (
        pipelines.open(
            index, clip=asked.clip or variant.clip, views=protocol, batch=asked.batch, device=device,
            workers=asked.workers, sampler=pipelines.SamplerState(rank=world.rank, world=world.size),
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
    if asked.dump is not None:
        _save(mine, by_view, asked.dump, index)
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
        return [(path, reason) for path, reason in self._stream.skipped]

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
