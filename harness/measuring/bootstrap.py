"""Bootstrap intervals over videos, or over groups of videos, for metrics such as mean class accuracy and mAP.

A plain proportion of the videos, such as top-1, has Wilson's interval instead.
B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...student import t_quantile, whole

RESAMPLES, FEWEST = 1000, 100
WORK = 5e8  # budget of elementary operations over all resamples: seconds, not minutes
SEED = 0


def interval(
    value: float,
    statistic: Callable[[Tensor], Tensor],
    videos: int,
    *,
    work: float = 1,
    groups: Tensor | None = None,
) -> tuple[float | None, float | None, str]:
    """Return the bounds of a 95 % interval around `value` (percent), clipped to 0..100, and the method as text.

    `statistic` maps each video's multiplicity in a resample (float64 V) to a fraction; all ones must give `value`. It
    costs `work` operations per video. `groups` is each video's group, 0..G-1 (int64 V): whole groups are then drawn, as
    their videos are not independent. The bounds are ±1.96 bootstrap standard errors (with groups, Student's t for
    their number), not percentiles: repeated videos in a resample bias average precision upwards. Returns (None, None,
    "") if the resamples do not vary, or if `FEWEST` of them would cost more than `WORK` operations.
    """
    resamples = min(RESAMPLES, int(WORK / (max(videos, 1) * work)))
    if resamples < FEWEST:
        return None, None, ""
    draw = torch.Generator().manual_seed(SEED)
    drawn = videos if groups is None else int(groups.max()) + 1
    counts = (_counts(drawn, draw) for _ in range(resamples))
    found = torch.stack([statistic(count if groups is None else count[groups]) for count in counts])
    error = 100 * float(found[~found.isnan()].std())
    if not error > 0 or math.isnan(error):  # no variance: everything right, everything wrong, or a single video
        return None, None, ""
    method = f"95 % by {resamples} bootstraps over {'videos' if groups is None else f'{drawn} groups'}, seed {SEED}"
    half = error * (1.96 if groups is None else t_quantile(whole(drawn - 1)))
    return max(value - half, 0.0), min(value + half, 100.0), method


def _counts(count: int, draw: torch.Generator) -> Tensor:
    return torch.bincount(torch.randint(count, (count,), generator=draw), minlength=count).double()


class Precision:
    """Average precision of every class (columns of V x K) under per-video weights, such as bootstrap multiplicities.

    As in torchmetrics: the mean, over a class's positives, of the precision at their scores.
    """

    def __init__(self, score: Tensor, label: Tensor) -> None:
        ranked, self.order = score.sort(dim=0, descending=True)
        self.positive = label.double().gather(0, self.order)
        ends = torch.ones_like(ranked, dtype=torch.bool)
        ends[:-1] = ranked[:-1] != ranked[1:]  # equal scores are one threshold
        places = torch.arange(len(score))[:, None].expand_as(score)
        last = torch.where(ends, places, len(score))
        self.threshold = last.flip(0).cummin(0).values.flip(0)

    def __call__(self, counts: Tensor) -> Tensor:
        """Return the K average precisions (float64) for weights V; NaN for classes without positives."""
        weight = counts[self.order]
        right = weight * self.positive
        shown = weight.cumsum(0).gather(0, self.threshold)
        precision = right.cumsum(0).gather(0, self.threshold) / shown.clamp(min=1)
        return (right * precision).sum(0) / right.sum(0)
