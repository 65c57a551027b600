"""Multi-view testing: every video once, softmax a view, the mean over its views, then top-k.

`scores` counts the way the field does (MMAction2's `average_clips="prob"`): probabilities are averaged, not logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_stat_scores

from .result import Metric
from .statistics import wilson


class Stream(Protocol):
    """What evaluation needs of `pipelines.Stream`."""

    def epoch(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Predictions:
    """One row a video: its row in the index, its label, and the mean probability of each class (V×K)."""

    video: Tensor
    label: Tensor
    score: Tensor

    @classmethod
    def join(cls, parts: list[Predictions]) -> Predictions:
        """Put the shards of several ranks together, in the index's order."""
        video = torch.cat([p.video for p in parts])
        order = video.argsort()
        label, score = torch.cat([p.label for p in parts]), torch.cat([p.score for p in parts])
        return cls(video[order], label[order], score[order])

    def save(self, path: Path, paths: list[str]) -> None:
        """Write a parquet file: path, label, predicted class, and a column a class."""
        import pandas as pd

        frame = pd.DataFrame(self.score.numpy(), columns=[f"score_{k}" for k in range(self.score.shape[1])])
        frame.insert(0, "predicted", self.score.argmax(1).numpy())
        frame.insert(0, "label", self.label.numpy())
        frame.insert(0, "path", [paths[i] for i in self.video.tolist()])
        frame.to_parquet(path)


def evaluate(
    forward: Callable[[Tensor], Tensor], stream: Stream, *, progress: Callable[[int], None] | None = None
) -> Predictions:
    """Run one epoch of a test stream; `forward` maps N×3×T×H×W to logits N×K. `progress` is told the videos done."""
    total: dict[int, Tensor] = {}
    views: dict[int, int] = {}
    label: dict[int, int] = {}
    with torch.inference_mode():
        for batch in stream.epoch():
            probability = forward(batch.clip).float().softmax(-1).cpu()
            for video, truth, row in zip(batch.video.tolist(), batch.label.tolist(), probability, strict=True):
                total[video] = total[video] + row if video in total else row
                views[video] = views.get(video, 0) + 1
                label[video] = truth
            if progress is not None:
                progress(len(total))
    return Predictions(
        torch.tensor(list(total), dtype=torch.long),
        torch.tensor([label[v] for v in total], dtype=torch.long),
        torch.stack([total[v] / views[v] for v in total]) if total else torch.zeros(0, 0),
    )


def scores(predictions: Predictions, num_classes: int, views: str) -> dict[str, Metric]:
    """Return top-1, top-5 (where there are more than five classes) and mean class accuracy, in percent."""
    count = len(predictions.label)
    convention = f"{views} views, {count} videos, softmax averaged"
    found = {
        f"top{k}": _share(_correct(predictions, num_classes, k), count, convention) for k in (1, 5) if k < num_classes
    }
    per_class = multiclass_stat_scores(predictions.score.argmax(1), predictions.label, num_classes, average=None)
    support = per_class[:, 4]
    mean = (per_class[:, 0] / support.clamp(min=1))[support > 0].mean()
    found["mean_class_accuracy"] = Metric(value=100 * float(mean), unit="%", convention=convention)
    return found


def _correct(predictions: Predictions, num_classes: int, k: int) -> int:
    accuracy = multiclass_accuracy(predictions.score, predictions.label, num_classes, top_k=k, average="micro")
    return round(float(accuracy) * len(predictions.label))


def _share(correct: int, count: int, convention: str) -> Metric:
    low, high = wilson(correct, count)
    return Metric(value=100 * correct / count, unit="%", low=100 * low, high=100 * high, convention=convention)
