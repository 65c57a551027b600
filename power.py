"""What a comparison can see: the error of a mean over rounds, and the smallest difference that it will show.

A round is a median over some seconds of one process. Two things make the mean of a run's rounds less certain than so
many independent numbers would be: neighboring rounds are alike, as the machine is slow or fast for minutes
(`CORRELATION`), and another run of the same code differs by what its rounds have in common: where its memory lies,
which cores it got (`RUN`), and if they are batches of one measurement, the machine in those seconds (`MOMENT`). These
are allowances: one run cannot show them. Several runs a side do, and need none.

Everything is in logarithms, where 0.05 is about 5 %. Standard library only, so that every room may import it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .student import t_quantile, whole

CORRELATION = 0.5  # between neighboring rounds of a run
INFLATION = (1 + CORRELATION) / (1 - CORRELATION)  # of the variance of their mean
RUN = 0.01  # standard deviation from run to run of what all rounds of a run share
MOMENT = 0.018  # the same of all batches of one measurement: two differ by up to 5 %
FEWEST = 3  # rounds, or runs, of which a variance says something
CHANCE = 0.8  # of seeing a difference, for it to count as one that can be seen
BEYOND = statistics.NormalDist().inv_cdf(CHANCE)
DISAGREEING = 0.25  # share of the videos on which only one of two models is right
MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Mean:
    """The mean of some logarithms, the variance of that mean, and the degrees of freedom with which it is known."""

    value: float
    variance: float
    freedom: float


def mean(runs: Sequence[Sequence[float]], allowance: float = RUN) -> Mean | None:
    """Return the mean of the logs of positive numbers, given by run and round; None if there are too few to judge.

    With `FEWEST` runs or more, the runs' own spread counts, and neither their rounds nor the `allowance`.
    """
    logs = [list(map(math.log, rounds)) for rounds in runs]
    middles = [statistics.fmean(rounds) for rounds in logs]
    if len(runs) >= FEWEST:
        return Mean(statistics.fmean(middles), statistics.variance(middles) / len(runs), len(runs) - 1)
    if not runs or min(map(len, logs)) < FEWEST:
        return None
    parts = [
        Mean(m, INFLATION * statistics.variance(r) / len(r), len(r) - 1) for m, r in zip(middles, logs, strict=True)
    ]
    seen = sum(part.variance for part in parts)
    total = seen + len(runs) * allowance**2
    return Mean(statistics.fmean(middles), total / len(runs) ** 2, _freedom(total, parts))


def difference(a: Mean, b: Mean) -> Mean:
    """Return b - a, with the degrees of freedom of unequal variances.

    B. L. Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34 (1947).
    """
    total = a.variance + b.variance
    return Mean(b.value - a.value, total, _freedom(total, (a, b)))


def _freedom(total: float, parts: Sequence[Mean]) -> float:
    """Return Welch and Satterthwaite's degrees of freedom; what `total` has beyond the parts is known exactly."""
    uncertain = sum(part.variance**2 / part.freedom for part in parts)
    return total**2 / uncertain if uncertain > 0 else math.inf


def detectable(spread: float, rounds: int, allowance: float = RUN) -> float:
    """Return the difference (0.05: 5 %) that two runs of so many rounds show with a `CHANCE` of 80 %, asked alone.

    `spread` is the standard deviation of the rounds' logarithms. Infinite with fewer than `FEWEST` rounds.

    >>> [round(100 * detectable(0.02, rounds), 1) for rounds in (4, 8, 16)]
    [9.1, 6.6, 5.4]
    """
    if rounds < FEWEST:
        return math.inf
    part = Mean(0.0, INFLATION * spread**2 / rounds, rounds - 1)
    total = part.variance + allowance**2
    side = Mean(0.0, total, _freedom(total, (part,)))
    found = difference(side, side)
    return math.expm1((t_quantile(whole(found.freedom)) + BEYOND) * math.sqrt(found.variance))


def rounds_for(spread: float, wanted: float) -> int | None:
    """Return the rounds a run needs to show a difference of `wanted` (0.05: 5 %); None if `MOST_ROUNDS` are too few.

    >>> rounds_for(0.02, 0.05), rounds_for(0.02, 0.01)
    (24, None)
    """
    low, high = FEWEST - 1, MOST_ROUNDS
    if detectable(spread, high) > wanted:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(spread, middle) <= wanted else (middle, high)
    return high


def detectable_points(videos: int, disagreeing: float = DISAGREEING) -> float:
    """Return the difference of two models' accuracies, in points, that their paired test on these videos will show.

    With a `CHANCE` of 80 %, if only one of the two is right on that share of the videos.
    R. J. Connett, J. A. Smith, R. B. McHugh, "Sample size and power for pair-matched case-control studies", Statistics
    in Medicine 6 (1987).

    >>> round(detectable_points(400))
    7
    """
    return 100 * (1.96 + BEYOND) * math.sqrt(disagreeing / videos)
