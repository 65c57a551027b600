"""The difference of one metric of one case between two runs: ratio, interval, p-value, and the verdict in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, variance

from .. import power
from ..intervals import batch_medians
from ..result import Metric, Result
from ..student import p_value, t_quantile, whole
from ._calibration import calibration, swing
from ._stats import effect_size
from ._table import Column

ALPHA = 0.05
BLUNT = 1.2  # an interval that reaches a ratio this large does not show that nothing differs
CLEAR = 0.33  # Cliff's delta above which an effect is more than small (Romano and others, 2006)
Z, ONE_SIDED = NormalDist().inv_cdf(1 - ALPHA / 2), NormalDist().inv_cdf(1 - ALPHA)
UNTESTED = "not tested: one value a side"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of one case in both runs, in the metric's unit.

    `a` and `b` are medians over the results of the case, not scaled for display. `ratio` is b / a with its interval, if
    any (None if a is 0), `bounds` what the ratio is above and what it is below, each with 95 %; `effect` is Cliff's
    delta, `p` the uncorrected p-value (None if not testable). `rounds` is the
    number on the side that has fewer, `spread` the standard deviation of their logarithms; `alone` says that a side has
    too few runs to show how much they vary. `drift` is the ratio of the calibration times, b / a; `swing` the largest
    ratio that the machine's disturbances explain, 1 if there were none.
    """

    column: Column
    a: float
    b: float
    ratio: tuple[float, float | None, float | None] | None
    bounds: tuple[float, float] | None = None
    effect: float | None = None
    p: float | None = None
    rounds: int = 0
    spread: float = 0.0
    alone: bool = False
    drift: float = 1.0
    swing: float = 1.0

    @property
    def percent(self) -> float:
        """The difference in percent of the smaller value; 0 without a ratio."""
        return (
            100 * (max(self.ratio[0], 1 / self.ratio[0]) - 1) if self.ratio is not None and self.ratio[0] > 0 else 0.0
        )


def difference(column: Column, a: Sequence[Metric], b: Sequence[Metric]) -> Difference:
    """Return the difference of a metric between the results of a case in two runs, at least one each."""
    first, second = median(m.value for m in a), median(m.value for m in b)
    plain = Difference(column=column, a=first, b=second, ratio=(second / first, None, None) if first else None)
    if column.kind == "share":
        return _of_shares(plain, a[-1], b[-1])
    sides = [_rounds(m) for m in a], [_rounds(m) for m in b]
    if column.kind == "count" or min(r for side in sides for rounds in side for r in rounds) <= 0:
        return plain
    means = [power.mean(side, _allowance(metrics)) for side, metrics in zip(sides, (a, b), strict=True)]
    units = [_units(side) for side in sides]
    plain = dataclasses.replace(plain, rounds=min(map(len, units)), alone=min(len(a), len(b)) < power.FEWEST)
    if means[0] is None or means[1] is None:
        return plain
    found = power.difference(means[0], means[1])
    error = math.sqrt(found.variance)
    half, one_sided = (t_quantile(whole(found.freedom), 1 - share) * error for share in (ALPHA, 2 * ALPHA))
    statistic = found.value / error if error else math.copysign(math.inf, found.value) if found.value else 0.0
    return dataclasses.replace(
        plain,
        ratio=(math.exp(found.value), math.exp(found.value - half), math.exp(found.value + half)),
        bounds=(math.exp(found.value - one_sided), math.exp(found.value + one_sided)),
        effect=effect_size(*units),
        p=p_value(statistic, found.freedom),
        spread=math.sqrt(fmean(variance(map(math.log, side)) for side in units)),
    )


def between(column: Column, a: Sequence[Result], b: Sequence[Result]) -> Difference:
    """Return the difference of a column between two cases' results, with what the machine's own changes explain."""
    sides = [[r.metrics[column.name] for r in side if column.name in r.metrics] for side in (a, b)]
    d = difference(column, *sides)
    if not column.timed:
        return d
    calibrations = calibration(a), calibration(b)
    drift = calibrations[1] / calibrations[0] if all(calibrations) else 1.0
    disturbed = any("machine_disturbed" in m.flags for side in sides for m in side)
    return dataclasses.replace(d, drift=drift, swing=swing([*a, *b]) if disturbed else 1.0)


def verdict(d: Difference, p: float | None) -> str:
    """Return the verdict in words, given the corrected p-value (None if not tested)."""
    if p is None:
        if d.a == d.b:
            return "equal"
        if d.column.kind == "count":
            return direction(d)
        return "too few rounds to tell" if d.rounds > 1 else UNTESTED
    if p >= ALPHA:
        return "too few rounds to tell" if d.rounds and _farthest_from_one(d) >= BLUNT else "no difference"
    if d.effect is not None and abs(d.effect) < CLEAR:
        return "no difference"
    nearest, found, drift = _nearest_to_one(d), direction(d), max(d.drift, 1 / d.drift)
    if nearest <= drift and found == ("slower" if d.drift > 1 else "faster"):
        return f"doubtful: the machine itself was {drift:.2f} times {found}"
    return "doubtful: the machine was disturbed" if d.swing > 1 and nearest <= d.swing else found


def direction(d: Difference) -> str:
    """Return in one word which way b differs from a."""
    up = d.ratio[0] > 1 if d.ratio else d.b > d.a
    if d.column.timed:
        return "faster" if up == (d.column.better == "higher") else "slower"
    if d.column.kind == "share":
        return "better" if up else "worse"
    return "higher" if up else "lower"


def _rounds(metric: Metric) -> list[float]:
    """Return a run's rounds: those of an interleaved run, else batches of its samples, or only its value."""
    return metric.round_medians or batch_medians(metric.samples) or [metric.value]


def _allowance(runs: Sequence[Metric]) -> float:
    """Return what a run's mean may share that its rounds, or the batches of its one measurement, do not show."""
    return power.RUN if all(metric.rounds for metric in runs) else power.MOMENT


def _units(runs: Sequence[Sequence[float]]) -> list[float]:
    """Return what counts as a round of a side: its runs, if they are enough to show how much they vary."""
    if len(runs) >= power.FEWEST:
        return [median(rounds) for rounds in runs]
    return [value for rounds in runs for value in rounds]


def _of_shares(plain: Difference, a: Metric, b: Metric) -> Difference:
    """Return the difference of two percentages with what their intervals say, if they have some."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return plain
    error = math.hypot(a.high - a.low, b.high - b.low) / (2 * Z)
    if not error:
        return plain
    plain = dataclasses.replace(plain, p=math.erfc(abs(b.value - a.value) / error / math.sqrt(2)))
    if not a.value:
        return plain
    low, above, below, high = ((b.value + z * error) / a.value for z in (-Z, -ONE_SIDED, ONE_SIDED, Z))
    return dataclasses.replace(plain, ratio=(b.value / a.value, low, high), bounds=(above, below))


def _nearest_to_one(d: Difference) -> float:
    """Return the ratio within the interval that is nearest to 1, as a factor >= 1; infinite without a ratio."""
    if d.ratio is None:
        return math.inf
    middle, low, high = d.ratio
    low, high = middle if low is None else low, middle if high is None else high
    return max(1.0, low, 1 / high)


def _farthest_from_one(d: Difference) -> float:
    assert d.ratio is not None
    _, low, high = d.ratio
    return max(high or 1.0, 1 / (low or 1.0))
