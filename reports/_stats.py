"""Statistics of comparisons: rank test, ratio interval, spread, effect size, Holm's correction; and the Pareto front.

Standard library only. `wilson` and `median_interval` are in `intervals.py`, which the harness shares.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from statistics import NormalDist, stdev

from ..intervals import quantile

EXACT = 30  # up to this many samples on either side, and without ties, the exact distribution is used


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


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p-value of the Mann-Whitney U test: exact for few samples without ties, else normal.

    H. B. Mann, D. R. Whitney, "On a test of whether one of two random variables is stochastically larger than the
    other", Annals of Mathematical Statistics 18 (1947).
    """
    n, m = len(a), len(b)
    if not n or not m:
        raise ValueError("mann_whitney: a side without samples")
    larger = _wins(a, b)
    ties = [count for count in Counter([*a, *b]).values() if count > 1]
    if not ties and max(n, m) <= EXACT:
        below = _cumulative(n, m)[int(min(larger, n * m - larger))]
        return min(1.0, 2 * below / math.comb(n + m, n))
    total = n + m
    variance = n * m / 12 * (total + 1 - sum(t**3 - t for t in ties) / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    distance = max(0.0, abs(larger - n * m / 2) - 0.5)  # half a step: the rank sum is discrete
    return math.erfc(distance / math.sqrt(2 * variance))


def smallest_p(n: int, m: int) -> float:
    """Return the smallest two-sided p-value that the exact test of n against m samples can give."""
    return min(1.0, 2 / math.comb(n + m, n))


def ratio_interval(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the Hodges-Lehmann estimate of the ratio b / a and its interval, from all pairwise ratios.

    It inverts the rank test on logarithms, so samples must be positive: J. L. Hodges, E. L. Lehmann, "Estimates of
    location based on rank tests", Annals of Mathematical Statistics 34 (1963). If there are too few samples for the
    confidence, the interval spans all pairwise ratios.
    """
    ratios = sorted(y / x for x in a for y in b)
    skip = _outside(len(a), len(b), confidence)
    middle = math.sqrt(ratios[(len(ratios) - 1) // 2] * ratios[len(ratios) // 2])
    return middle, ratios[skip], ratios[-1 - skip]


def spread(values: Sequence[float]) -> float:
    """Return the geometric standard deviation of two or more positive values, as a factor >= 1."""
    return math.exp(stdev(map(math.log, values)))


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


def _wins(a: Sequence[float], b: Sequence[float]) -> float:
    """Count the pairs in which a exceeds b, a tie as half: Mann and Whitney's U."""
    ordered = sorted(b)
    return sum(bisect_left(ordered, x) + bisect_right(ordered, x) for x in a) / 2


def _outside(n: int, m: int, confidence: float) -> int:
    """Return how many of the sorted pairwise ratios lie below the interval."""
    tail = (1 - confidence) / 2
    if max(n, m) <= EXACT:
        allowed = tail * math.comb(n + m, n)
        return max(0, bisect_right(_cumulative(n, m), allowed) - 1)
    spread = math.sqrt(n * m * (n + m + 1) / 12)
    return max(0, math.floor(n * m / 2 + NormalDist().inv_cdf(tail) * spread - 0.5))


@lru_cache
def _cumulative(n: int, m: int) -> tuple[int, ...]:
    """Count the arrangements of n and m samples with U at most 0, 1, … n·m: the Gaussian binomial, by its product."""
    counts = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for u in range(n * m, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, n * m + 1):
            counts[u] += counts[u - i]
    return tuple(accumulate(counts))
