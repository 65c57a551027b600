"""Confidence intervals: Wilson's for a proportion, also of clusters; order statistics for medians and quantiles.

Standard library only, so that every room may import it.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from operator import mul

from .student import MOST, t_quantile

NUM_BATCHES = 10


def wilson(successes: float, n: float, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's score interval of `successes` of `n`, in 0..1; `z=1.96` covers 95 %.

    It stays inside 0..1 and keeps its coverage at 0 % and 100 %, where the textbook interval collapses to a point.
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    Raises ValueError unless 0 <= successes <= n and n > 0.

    >>> tuple(round(x, 4) for x in wilson(81, 100))
    (0.7222, 0.8749)
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"wilson: {successes} successes of {n} is no share")
    share, weight = successes / n, z * z / n
    center = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == n else center + half
    return low, high


def clustered_wilson(right: Sequence[bool], clusters: Sequence[Hashable]) -> tuple[float, float]:
    """Return the 95 % interval of the share, in 0..1, of what is right, of videos that are alike within clusters.

    It is Wilson's of fewer independent videos, whose share varies as much as the clusters' sums do: J. N. K. Rao, A. J.
    Scott, "A simple method for the analysis of clustered binary data", Biometrics 48 (1992); with Student's t for the
    number of clusters. If every video is a cluster, it is `wilson`; one cluster says nothing: (0, 1).

    >>> tuple(round(x, 2) for x in clustered_wilson([True] * 60 + [False] * 40, [i // 10 for i in range(100)]))
    (0.24, 0.88)
    """
    n, successes = len(right), sum(right)
    sizes, sums = Counter(clusters), Counter(c for c, hit in zip(clusters, right, strict=True) if hit)
    count = len(sizes)
    if count in (1, n):
        return wilson(successes, n) if count == n else (0.0, 1.0)
    design, freedom = sum(size**2 for size in sizes.values()) / n, count - 1  # as if a cluster were one video
    if 0 < successes < n:
        share = successes / n
        spread = sum((sums[c] - share * size) ** 2 for c, size in sizes.items()) * count / (count - 1)
        design = max(1.0, spread / (n * share * (1 - share)))
        mixed = min(len(sums), sum(sums[c] < size for c, size in sizes.items()))
        freedom = min(freedom, 1 + mixed)  # few clusters with a mistake tell little of how alike their videos are
    return wilson(successes / design, n / design, t_quantile(min(freedom, MOST)))


def median_interval(samples: Iterable[float], confidence: float = 0.95) -> tuple[float, float | None, float | None]:
    """Return the median and the two samples that enclose the true one with at least `confidence`.

    No distribution is assumed: how many of n samples fall below the true median is binomial(n, 1/2). Under six samples
    not even the extremes reach 95 %: the bounds are then None, as `Metric.low` and `Metric.high` expect. Raises
    ValueError without samples.

    >>> median_interval([5, 1, 4, 2, 3, 6])
    (3.5, 1, 6)
    >>> median_interval([1, 2, 3])
    (2, None, None)
    """
    ordered = sorted(samples)
    if not ordered:
        raise ValueError("median_interval: no samples")
    rank = _rank(len(ordered), confidence)
    median = statistics.median(ordered)
    return (median, ordered[rank - 1], ordered[-rank]) if rank else (median, None, None)


def serial_interval(samples: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the median of a time series, in order of time, and its 95 % interval, computed from `batch_medians`.

    Consecutive timings are autocorrelated (a machine is slow, or fast, for seconds): treated as independent they would
    give an interval that is far too narrow. Under six samples the bounds are None.

    >>> serial_interval([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    (1.5, 1.0, 2.0)
    """
    median = statistics.median(samples)
    _, low, high = median_interval(batch_medians(samples))
    return (median, None, None) if low is None or high is None else (median, min(low, median), max(high, median))


def batch_medians(samples: Sequence[float]) -> list[float]:
    """Return the medians of `NUM_BATCHES` contiguous batches of samples; of fewer samples, the samples themselves."""
    n, count = len(samples), min(len(samples), NUM_BATCHES)
    return [statistics.median(samples[i * n // count : (i + 1) * n // count]) for i in range(count)]


def serial_quantile(
    samples: Sequence[float], share: float, confidence: float = 0.95
) -> tuple[float, float | None, float | None]:
    """Return the `share` quantile of a time series and the two samples that enclose the true one with `confidence`.

    `share` lies in 0..1, ends excluded (0.9 for the 90th percentile). How many of n independent samples fall below the
    quantile is binomial(n, share). These are in order of time, and whether one exceeds the quantile depends on whether
    its neighbors do: they count as so many independent ones as vary as much (see `inflation`). A bound that lies beyond
    all samples is None. Raises ValueError without samples.

    >>> serial_quantile([1] * 50 + [2] * 50, 0.5)
    (1.5, None, None)
    """
    ordered = sorted(samples)
    if not ordered:
        raise ValueError("serial_quantile: no samples")
    value = quantile(ordered, share)
    effective = len(ordered) / inflation([float(sample <= value) for sample in samples])
    return value, *_enclosing(ordered, share, confidence, max(1, int(effective)))


def inflation(series: Sequence[float]) -> float:
    """Return how many times as large autocorrelation makes the variance of a series' mean, at least 1.

    1 plus twice the autocorrelations, up to the first two neighboring lags whose sum is not positive: C. J. Geyer,
    "Practical Markov chain Monte Carlo", Statistical Science 7 (1992). They are too small by the variance of the mean
    from which they are taken, each of them: the last factor makes up for it.
    """
    n, mean = len(series), statistics.fmean(series)
    rest = [value - mean for value in series]
    variance = sum(value * value for value in rest)
    found, lag = 1.0, 1
    while variance > 0 and lag + 1 < n:
        pair = sum(sum(map(mul, rest, rest[at:])) for at in (lag, lag + 1)) / variance
        if pair <= 0:
            break
        found, lag = found + 2 * pair, lag + 2
    return found * (1 + 2 * (lag - 1) / n)


def _enclosing(
    ordered: Sequence[float], share: float, confidence: float, count: int
) -> tuple[float | None, float | None]:
    """Return the bounds of a quantile of ascending samples, if they are worth `count` independent ones."""
    n, tail = len(ordered), (1 - confidence) / 2
    cumulative = list(accumulate(_binomial(count, share)))
    low = max((r for r in range(1, count + 1) if cumulative[r - 1] <= tail), default=None)
    high = min((r for r in range(1, count + 1) if cumulative[r - 1] >= 1 - tail), default=None)
    return (
        None if low is None else ordered[max(0, low * n // count - 1)],
        None if high is None else ordered[-(-high * n // count) - 1],
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the `share` quantile (0..1) of ascending samples, interpolated linearly between the two nearest ones.

    >>> quantile([1, 2, 4], 0.75)
    3.0
    """
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


def _binomial(n: int, share: float) -> list[float]:
    """Return the probability of 0..n successes."""
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        + k * math.log(share) + (n - k) * math.log1p(-share)
        for k in range(n + 1)
    ]  # fmt: skip
    return [math.exp(value) for value in logs]


@lru_cache
def _rank(n: int, confidence: float) -> int:
    """Return the largest r for which [r-th smallest, r-th largest] covers; 0 where none does. Exact in integers."""
    allowed = int((1 - confidence) / 2 * 2**53) << n >> 53  # of the 2^n outcomes, in either tail
    rank, term, tail = 0, 1, 1
    while tail <= allowed:
        rank += 1
        term = term * (n - rank + 1) // rank
        tail += term
    return rank


def total(accounts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of mappings such as {"wall": seconds, …}, key by key, rounded to three decimals."""
    sums: dict[str, float] = {}
    for account in accounts:
        for name, amount in account.items():
            sums[name] = round(sums.get(name, 0.0) + amount, 3)
    return sums
