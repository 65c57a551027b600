"""Multi-view testing: scores averaged over the views of each video, then the data set's own metric.

As in MMAction2's `average_clips="prob"`, probabilities are averaged, not logits: of a softmax, or in a multi-label set,
where each class is trained on its own, of a sigmoid. Unreadable videos are excluded, and the metric's convention says
so. If videos of the official list are missing, it also gives the bounds on the full list:

    top-1 of 19 796 listed videos, 100 of them not tested:  correct / 19 796  ..  (correct + 100) / 19 796
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ...errors import UserError, printable
from ...intervals import clustered_wilson
from ...result import Metric
from ...spec import Activation
from . import bootstrap
from .bootstrap import Precision
from .phases import PhaseTimer

if TYPE_CHECKING:
    import pandas as pd

# The primary metric of a data set, by its kind of metric; mAP for all others.
MAIN = {"topk": "top1", "mean_class": "mean_class_accuracy"}


class Stream(Protocol):
    """The part of `pipelines.Stream` that evaluation uses."""

    metric: str
    listed: int
    classes: tuple[str, ...]
    decoder: str

    @property
    def skipped(self) -> Sequence[tuple[str, str]]: ...  # noqa: D102

    def epoch(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Predictions:
    """Test scores of V videos: row in the index (V), label (V, or multi-hot V×K), mean class probabilities (V×K).

    `group` names each video's group, whose videos are not independent (V; () if every video is one by itself).
    `broken` are the (path, reason) of excluded videos, `listed` is the length of the official list (0: unknown).
    `metric` and `classes` are the data set's, `activation` is what made probabilities of the logits,
    `decoder` what decoded the videos ("": unknown).
    """

    video: Tensor
    label: Tensor
    score: Tensor
    broken: tuple[tuple[str, str], ...] = ()
    listed: int = 0
    metric: str = "topk"
    classes: tuple[str, ...] = ()
    activation: Activation = "softmax"
    decoder: str = ""
    group: tuple[str, ...] = ()

    def in_groups(self, groups: Sequence[str]) -> Predictions:
        """Return the predictions with their groups, given that of every row of the index (see `Index.groups`)."""
        found = tuple(groups[row] for row in self.video.tolist())
        return replace(self, group=found if len(set(found)) < len(found) else ())

    @property
    def cluster(self) -> Tensor | None:
        """The number of each video's group (int64 V), from 0; None if every video is one by itself."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(self.group))}
        return torch.tensor([numbers[name] for name in self.group]) if self.group else None

    @classmethod
    def join(cls, parts: list[Predictions]) -> Predictions:
        """Merge the predictions of several ranks, sorted by row in the index; `parts` must not be an empty list.

        A video that several ranks tested is kept several times.
        """
        full = [p for p in parts if len(p.video)] or parts[:1]
        video = torch.cat([p.video for p in full])
        order = video.argsort()
        label, score = torch.cat([p.label for p in full]), torch.cat([p.score for p in full])
        broken = tuple(dict.fromkeys(pair for p in parts for pair in p.broken))
        return cls(
            video[order], label[order], score[order],
            broken=broken, listed=full[0].listed, metric=full[0].metric, classes=full[0].classes,
            activation=full[0].activation, decoder=full[0].decoder,
        )  # fmt: skip

    @property
    def main(self) -> str:
        """The name of the data set's primary metric, such as `top1`."""
        return MAIN.get(self.metric, "map")

    def save(self, path: Path, paths: list[str]) -> None:
        """Write the `table` to a parquet file."""
        self.table(paths).to_parquet(path)

    def table(self, paths: list[str]) -> pd.DataFrame:
        """Return a row per video: path, label (a list if multi-label), predicted, activation, `score_0` … `score_K-1`.

        If there are groups, also `group`.

        `paths` has the path of every row of the index, in its order. The predicted class is that of the highest score.
        """
        import pandas as pd

        multi = self.label.ndim == 2
        frame = pd.DataFrame(self.score.numpy(), columns=[f"score_{k}" for k in range(self.score.shape[1])])
        frame.insert(0, "activation", self.activation)
        frame.insert(0, "predicted", self.score.argmax(1).numpy())
        labels = [row.nonzero().flatten().tolist() for row in self.label] if multi else self.label.tolist()
        frame.insert(0, "label", pd.Series(labels))
        if self.group:
            frame.insert(0, "group", list(map(printable, self.group)))
        frame.insert(0, "path", [printable(paths[i]) for i in self.video.tolist()])
        return frame


def evaluate(
    forward: Callable[[Tensor], Tensor],
    stream: Stream,
    *,
    activation: Activation | None = None,
    progress: Callable[[int], None] | None = None,
    timer: PhaseTimer | None = None,
) -> Predictions:
    """Run one epoch of a test stream and return its predictions; `forward` maps N×3×T×H×W to logits N×K.

    Scores are probabilities, by default of a sigmoid for multi-label sets and of a softmax for others; gradients are
    off, but the model is not put into eval mode. `progress` receives the number of videos seen so far. The loop from
    its first batch on counts as `measured` on the `timer`.
    """
    timer = timer or PhaseTimer()
    total: dict[int, Tensor] = {}
    views: dict[int, int] = {}
    label: dict[int, Tensor] = {}
    with torch.inference_mode(), timer.phase("measured"):
        for batch in timer.batches(stream):
            activation = activation or ("sigmoid" if batch.label.ndim == 2 else "softmax")
            logits = forward(batch.clip).float()
            probability = (logits.sigmoid() if activation == "sigmoid" else logits.softmax(-1)).cpu()
            for video, truth, row in zip(batch.video.tolist(), batch.label.cpu(), probability, strict=True):
                total[video] = total[video] + row if video in total else row
                views[video] = views.get(video, 0) + 1
                label[video] = truth
            if progress is not None:
                progress(len(total))
    return Predictions(
        torch.tensor(list(total), dtype=torch.long),
        torch.stack(list(label.values())) if total else torch.zeros(0, dtype=torch.long),
        torch.stack([total[v] / views[v] for v in total]) if total else torch.zeros(0, 0),
        broken=tuple((path, reason) for path, reason in stream.skipped),
        listed=stream.listed,
        metric=stream.metric,
        classes=stream.classes,
        activation=activation or "softmax",
        decoder=stream.decoder,
    )


def scores(predictions: Predictions, num_classes: int, views: str, *, precision: str = "") -> dict[str, Metric]:
    """Return top-1, top-5 (if there are more than five classes) and mean class accuracy, in percent.

    For a multi-label set, only the mean average precision. `views`, such as `4x3`, and the `precision` of the forward
    pass are text for the convention. Raises UserError if there are no videos, or labels that are no classes.
    """
    _check(predictions, num_classes)
    convention = _convention(predictions, views) + (f", computed in {precision}" if precision else "")
    if predictions.label.ndim == 2:
        return {"map": _mean_average_precision(predictions, convention)}
    found = {
        f"top{k}": _share(_right(predictions, k), predictions, convention) for k in (1, 5) if k < max(num_classes, 2)
    }
    found["mean_class_accuracy"] = _mean_class_accuracy(predictions, num_classes, convention)
    return found


def _check(predictions: Predictions, num_classes: int) -> None:
    if not len(predictions.video):
        path, reason = predictions.broken[0] if predictions.broken else ("the index", "holds no videos")
        raise UserError(f"none of the videos could be read: {path}: {reason}")
    if predictions.label.ndim == 1 and int(predictions.label.min()) < 0:
        raise UserError("videos without labels cannot be scored (a test split?): take the validation split")
    if predictions.label.ndim == 1 and (largest := int(predictions.label.max())) >= num_classes:
        raise UserError(f"label {largest} cannot be scored: the model has {num_classes} classes, from 0")


def _convention(predictions: Predictions, views: str) -> str:
    parts = [f"{views} views", f"{len(predictions.video)} videos", f"{predictions.activation} averaged"]
    if predictions.decoder:
        parts.append(f"{predictions.decoder} decoder")
    if predictions.group:
        parts.append(f"in {len(set(predictions.group))} groups")
    if predictions.broken:
        parts.append(f"{len(predictions.broken)} broken skipped")
    if _untested(predictions):
        parts.append(f"{_untested(predictions)} of {predictions.listed} listed not tested")
    return ", ".join(parts)


def _untested(predictions: Predictions) -> int:
    return max(predictions.listed - len(predictions.video), 0)


def _right(predictions: Predictions, k: int) -> Tensor:
    """Return whether each video's class is among the `k` of the highest scores; of equal scores the first count."""
    best = predictions.score.topk(min(k, predictions.score.shape[1]), dim=1).indices
    return (best == predictions.label[:, None]).any(1)


def _share(right: Tensor, predictions: Predictions, convention: str) -> Metric:
    correct, count, untested = int(right.sum()), len(right), _untested(predictions)
    low, high = clustered_wilson(right.tolist(), predictions.group or range(count))
    if untested:
        bounds = (100 * c / (count + untested) for c in (correct, correct + untested))
        convention += ": {:.2f} to {:.2f} % of all listed".format(*bounds)
    return Metric(value=100 * correct / count, unit="%", low=100 * low, high=100 * high, convention=convention)


def _mean_class_accuracy(predictions: Predictions, num_classes: int, convention: str) -> Metric:
    label, right = predictions.label, (predictions.score.argmax(1) == predictions.label).double()

    def mean(counts: Tensor) -> Tensor:
        support = torch.bincount(label, counts, minlength=num_classes)
        share = torch.bincount(label, counts * right, minlength=num_classes) / support
        return share.nanmean()  # classes without videos are ignored

    return _bootstrapped(mean, len(label), convention, predictions.cluster)


def _mean_average_precision(predictions: Predictions, convention: str) -> Metric:
    """Return mAP as the data set defines it: over classes, over videos (Multi-Moments), or over categories (HVU).

    Classes without positives are excluded. A class's HVU category is the part of its name before the slash. Bounds for
    untested videos are given for mAP over videos only: the others depend on labels that the index does not have.
    """
    score, label = predictions.score, predictions.label
    if predictions.metric == "map_by_video":
        return _map_by_video(Precision(score.T, label.T)(torch.ones(score.shape[1]).double()), predictions, convention)
    precision, classes, groups = Precision(score, label), score.shape[1], predictions.cluster
    if predictions.metric != "map_by_category":
        text = f"{convention}, mean over classes"
        return _bootstrapped(lambda counts: precision(counts).nanmean(), len(score), text, groups, work=classes)
    names = [name.partition("/")[0] for name in predictions.classes]
    columns = {category: torch.tensor([name == category for name in names]) for category in dict.fromkeys(names)}

    def means(counts: Tensor) -> Tensor:
        found = precision(counts)
        return torch.stack([found[chosen].nanmean() for chosen in columns.values()])

    shown = zip(columns, (100 * means(torch.ones(len(score)).double())).tolist(), strict=True)
    text = ", ".join(f"{category} {mean:.2f}" for category, mean in shown if mean == mean)  # NaN: no positives
    text = f"{convention}, mean over categories: {text}"
    return _bootstrapped(lambda counts: means(counts).nanmean(), len(score), text, groups, work=classes)


def _map_by_video(precision: Tensor, predictions: Predictions, convention: str) -> Metric:
    known, untested = ~precision.isnan(), _untested(predictions)
    total, count = float(precision[known].sum()), int(known.sum())
    text = f"{convention}, mean over videos"
    if untested:
        bounds = (100 * sum_ / (count + untested) for sum_ in (total, total + untested))
        text += ": {:.2f} to {:.2f} % of all listed".format(*bounds)
    shown, groups = precision[known], predictions.cluster
    groups = None if groups is None else groups[known].unique(return_inverse=True)[1]
    return _bootstrapped(lambda counts: (counts * shown).sum() / counts.sum(), count, text, groups)


def _bootstrapped(
    statistic: Callable[[Tensor], Tensor], videos: int, convention: str, groups: Tensor | None, *, work: float = 1
) -> Metric:
    value = 100 * float(statistic(torch.ones(videos).double()))
    low, high, method = bootstrap.interval(value, statistic, videos, work=work, groups=groups)
    convention = f"{convention}, {method}" if method else convention
    return Metric(value=value, unit="%", low=low, high=high, convention=convention)
