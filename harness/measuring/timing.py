"""The timing loop: warm up until steady, then time single steps until the median is known precisely enough.

The device is synchronized before and after each step, so a sample is the latency that a user sees. The loop ends when
the 95 % interval of the median is within ±`precision` of it, after `min_seconds` and 10 samples at least; or at
`max_seconds`, once it has `least` samples. The interval comes from 10 contiguous batches of samples, because
consecutive samples are autocorrelated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ...intervals import NUM_BATCHES, median_interval, serial_interval, serial_quantile
from ...result import Metric

ENOUGH = 10  # least samples before the interval is checked: one per batch
UNSTEADY = 0.05
BEYOND = 2  # least samples beyond a percentile


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a measurement in seconds, and the target `precision` (relative half-width of the median's interval).

    At least `least` samples are taken however slow a step is: a median has an interval from six samples on. The seconds
    do not include the warm-up, which may take half of `max_seconds` more.
    """

    min_seconds: float = 0.5
    max_seconds: float = 3.0
    precision: float = 0.02
    least: int = 6


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has finished all queued work; a no-op on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Host-side seconds of each timed call of a step.

    `warm_up` is the duration, in seconds, of the `calls` warm-up calls; `steady` says whether their times settled.
    """

    host: list[float]
    warm_up: float
    calls: int
    steady: bool


def take(step: Callable[[], object], device: torch.device | str, budget: Budget = Budget()) -> Timing:
    """Warm up until steady, for at most half of `max_seconds`, then time calls of `step` within the budget."""
    begin = time.perf_counter()
    calls, steady = warm_up(step, device, limit=budget.max_seconds / 2)
    start = time.perf_counter()
    host: list[float] = []
    while not done(host, time.perf_counter() - start, budget):
        host.append(timed(step, device))
    return Timing(host=host, warm_up=start - begin, calls=calls, steady=steady)


def samples(step: Callable[[], object], device: torch.device | str, budget: Budget = Budget()) -> list[float]:
    """Warm up like `take`; return the host-side seconds of each later call of `step`."""
    return take(step, device, budget).host


def timed(step: Callable[[], object], device: torch.device | str) -> float:
    """Return the seconds of one call, with the device synchronized before and after."""
    synchronize(device)
    begin = time.perf_counter()
    step()
    synchronize(device)
    return time.perf_counter() - begin


def warm_up(step: Callable[[], object], device: torch.device | str, limit: float) -> tuple[int, bool]:
    """Call `step` until the last three calls are less than 5 % faster than the three before, or for `limit` seconds.

    Returns the number of calls (at least one), and whether the times settled.
    """
    times: list[float] = []
    begin = time.perf_counter()
    while not times or time.perf_counter() - begin < limit:
        times.append(timed(step, device))
        if len(times) >= 6 and sum(times[-3:]) > 0.95 * sum(times[-6:-3]):
            return len(times), True
    return len(times), False


def summary(values: list[float], unit: str, convention: str = "") -> Metric:
    """Return the median of a time series as a metric, with its 95 % interval; at least one value, in `unit`.

    Flagged `unsteady` if the interval is wider than ±5 % or, under six values, missing.
    """
    return _metric(values, serial_interval(values), unit, convention)


def _metric(
    values: Sequence[float], found: tuple[float, float | None, float | None], unit: str, convention: str
) -> Metric:
    median, low, high = found
    unsteady = low is None or high is None or high - low > 2 * UNSTEADY * median
    warning = "unsteady: the interval is wider than ±5 %; close other programs or measure longer" if unsteady else ""
    return Metric(
        value=median, unit=unit, low=low, high=high, samples=tuple(values), convention=convention, warning=warning,
        flags=frozenset({"unsteady"} if unsteady else ()),
    )  # fmt: skip


def percentile(values: list[float], share: float, unit: str, convention: str = "") -> Metric | None:
    """Return the `share` quantile (0..1: 0.9 for the 90th percentile) of a time series in `unit`, with its interval.

    Returns None if fewer than `BEYOND` values are expected above it. A bound beyond all values is None, as are both if
    the values are alike for too long. The metric has no samples.
    """
    if len(values) * (1 - share) < BEYOND:
        return None
    value, low, high = serial_quantile(values, share)
    return Metric(value=value, unit=unit, low=low, high=high, convention=convention)


def disturbed(metric: Metric, reasons: str) -> Metric:
    """Return the metric flagged `machine_disturbed`, for `reasons`; its other flags and its warning are replaced."""
    return replace(metric, warning=reasons, flags=frozenset({"machine_disturbed"}))


def combine(rounds: Sequence[Metric]) -> Metric:
    """Merge a metric's rounds: the median of the rounds' medians, with the interval that those medians give.

    Samples within a round are correlated and the machine drifts between rounds, so only the medians are treated as
    independent: under six rounds there is no interval, and the metric is flagged `unsteady`. The rounds' own flags and
    warnings are dropped. A round without samples (a percentile) contributes its value.
    """
    medians = [m.value for m in rounds]
    merged = _metric(medians, median_interval(medians), rounds[0].unit, rounds[0].convention)
    samples = [m.samples or (m.value,) for m in rounds]
    return replace(
        merged,
        samples=tuple(s for taken in samples for s in taken),
        rounds=tuple(map(len, samples)),
    )


def done(taken: list[float], elapsed: float, budget: Budget) -> bool:
    """Whether timing may stop, given the samples (seconds) taken in `elapsed` seconds."""
    if len(taken) >= budget.least and elapsed >= budget.max_seconds:
        return True
    if len(taken) < ENOUGH or elapsed < budget.min_seconds:
        return False
    if len(taken) % (len(taken) // NUM_BATCHES):
        return False  # checking sorts all samples: check again only after a tenth more
    median, low, high = serial_interval(taken)
    return low is not None and high is not None and high - low <= 2 * budget.precision * median
