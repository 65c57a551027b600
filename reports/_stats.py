"""Statistics of comparisons: effect size, corrections for many tests, the paired test of clusters; the Pareto front.

Standard library only. Intervals are in `intervals.py`, the error of a mean over rounds is in `power.py`: the harness
shares them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from ..intervals import quantile

EXACT = 500  # clusters that differ; of more the normal distribution is used


def pareto(points: Sequence[tuple[float, float]], *, lower_x: bool = True, higher_y: bool = True) -> list[int]:
    """Return the indices of the non-dominated points, from the best x to the best y; duplicates are all kept."""
    costs = [(x if lower_x else -x, -y if higher_y else y) for x, y in points]
    front: list[int] = []
    for i in sorted(range(len(costs)), key=costs.__getitem__):
        if not front or costs[i][1] < costs[front[-1]][1] or costs[i] == costs[front[-1]]:
            front.append(i)
    return front


def kernel_width(ordered: Sequence[float]) -> float:
    """Return the Gaussian kernel bandwidth (at least 0.002) for the density of the logs of ascending positive samples.

    B. W. Silverman, "Density Estimation for Statistics and Data Analysis" (1986), equation 3.31.
    """
    logs = [math.log(sample) for sample in ordered]
    mean = sum(logs) / len(logs)
    deviation = math.sqrt(sum((log - mean) ** 2 for log in logs) / len(logs))
    middle = (quantile(logs, 0.75) - quantile(logs, 0.25)) / 1.34
    return max(0.9 * min(deviation, middle or deviation) * len(logs) ** -0.2, 0.002)


def effect_size(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Cliff's delta, -1..1: P(b > a) - P(a > b) over all pairs of samples."""
    return 2 * _wins(b, a) / (len(a) * len(b)) - 1


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values, in the given order, after Holm's correction, which controls the family-wise error rate.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    raised = accumulate((p_values[i] * (len(order) - rank) for rank, i in enumerate(order)), max)
    corrected = dict(zip(order, raised, strict=True))
    return [min(1.0, corrected[i]) for i in range(len(p_values))]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return the p-values, in the given order, after the correction that controls the rate of false discoveries.

    If nothing differs at all, that is the family-wise error rate, as of `holm`; if much does, less of it is missed.
    Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate", Journal of the Royal Statistical Society B 57
    (1995).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    count = len(order)
    lowered = accumulate((p_values[i] * count / (count - place) for place, i in enumerate(order)), min)
    corrected = dict(zip(order, lowered, strict=True))
    return [min(1.0, corrected[i]) for i in range(count)]


def sign_flip(differences: Sequence[int]) -> float:
    """Return the two-sided p-value for equal models, from the difference of their successes in each cluster.

    If the models are equal, each cluster's difference could as well have the other sign. Where every cluster is one
    video, that is McNemar's exact test: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions", Psychometrika 12 (1947).

    >>> round(sign_flip([1] * 8 + [-1] * 2), 4)
    0.1094
    """
    sizes = [abs(d) for d in differences if d]
    total, observed = sum(sizes), abs(sum(differences))
    if total == len(sizes):
        tail = sum(math.comb(total, k) for k in range((total - observed) // 2 + 1))
        return min(1.0, 2 * tail / 2**total)
    if len(sizes) > EXACT:
        return math.erfc(max(0.0, observed - 1) / math.sqrt(2 * sum(size**2 for size in sizes)))
    chances = [1.0] + [0.0] * total  # of each sum of the sizes that come out positive
    for size in sizes:
        for at in range(total, -1, -1):
            chances[at] = (chances[at] + (chances[at - size] if at >= size else 0.0)) / 2
    return min(1.0, sum(chance for at, chance in enumerate(chances) if abs(2 * at - total) >= observed))


def _wins(a: Sequence[float], b: Sequence[float]) -> float:
    """Count the pairs in which a exceeds b, a tie as half: Mann and Whitney's U."""
    ordered = sorted(b)
    return sum(bisect_left(ordered, x) + bisect_right(ordered, x) for x in a) / 2
