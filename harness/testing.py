"""`reelbench eval`: one checkpoint, one index, one protocol of views."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from torch import Tensor

from .. import models, pipelines
from ..pipelines.index import Index
from .evaluate import evaluate, scores
from .metrics import autocast
from .progress import bar
from .result import Metric
from .spec import Views


def test(
    model: str, checkpoint: Path, data: Path, views: str | None, device: Literal["cpu", "cuda"], precision: str,
    batch: int, workers: int, dump: Path | None,
) -> dict[str, Metric]:  # fmt: skip
    """Return top-1, top-5 and mean class accuracy; with `dump`, write each video's scores to a parquet file."""
    variant = models.find(model)
    protocol = Views.parse(views) if views else variant.views
    index = Index.load(data)
    index.verify()
    place = torch.device(device)
    network = models.build(model, num_classes=len(index.classes), checkpoint=checkpoint).to(place).eval()

    def forward(clip: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(place, precision):
            return network(clip)

    with (
        pipelines.open(index, clip=variant.clip, views=protocol, batch=batch, device=device, workers=workers) as stream,
        bar(Console(file=sys.stderr)) as progress,
    ):
        task = progress.add_task("videos", total=len(index))
        predictions = evaluate(forward, stream, progress=lambda done: progress.update(task, completed=done))
    if dump is not None:
        predictions.save(dump, [str(video.path) for video in index.videos()])
    return scores(predictions, len(index.classes), str(protocol))
