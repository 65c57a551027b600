"""The one measuring loop: warm up until steady, synchronize, one sample a step, stop when the median is known.

Timing begins after the device is idle and ends after it is idle again, so a sample is the time a user waits. The loop
ends when the 95 % interval of the median is within ±`precision` of it, or at `max_seconds`, never before `min_seconds`,
nor before the median has an interval at all. The interval is that of ten stretches of the loop, not of single samples:
neighbors are alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ...intervals import NUM_BATCHES, median_interval, quantile_interval, serial_interval
from ...result import Metric

ENOUGH = 10  # samples for a look at the median, one a stretch
UNSTEADY = 0.05
BEYOND = 2  # samples that must lie beyond a percentile


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a measurement may take, in seconds, and how sharp the median must become (relative half width).

    However slow a step is, `least` samples are taken: from six on, a median has an interval.
    """

    min_seconds: float = 0.5
    max_seconds: float = 3.0
    precision: float = 0.02
    least: int = 6


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has finished all queued work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The seconds of each call of a step, by the host's clock.

    `warm_up` is what was spent before on `calls` calls; `steady` says whether they settled within their limit.
    """

    host: list[float]
    warm_up: float
    calls: int
    steady: bool


def take(step: Callable[[], object], device: torch.device | str, budget: Budget = Budget()) -> Timing:
    """Warm up until steady, then time calls of `step` until the median is known."""
    begin = time.perf_counter()
    calls, steady = warm_up(step, device, limit=budget.max_seconds / 2)
    start = time.perf_counter()
    host: list[float] = []
    while not done(host, time.perf_counter() - start, budget):
        host.append(timed(step, device))
    return Timing(host=host, warm_up=start - begin, calls=calls, steady=steady)


def samples(step: Callable[[], object], device: torch.device | str, budget: Budget = Budget()) -> list[float]:
    """Return the host's seconds of each call of `step`, warm-up left out."""
    return take(step, device, budget).host


def timed(step: Callable[[], object], device: torch.device | str) -> float:
    """Return the seconds of one call, the device idle before and after."""
    synchronize(device)
    begin = time.perf_counter()
    step()
    synchronize(device)
    return time.perf_counter() - begin


def warm_up(step: Callable[[], object], device: torch.device | str, limit: float) -> tuple[int, bool]:
    """Call `step` until the last three calls are no faster than the three before them, or for `limit` seconds.

    Returns the number of calls, and whether they settled. At least one call is made.
    """
    times: list[float] = []
    begin = time.perf_counter()
    while not times or time.perf_counter() - begin < limit:
        times.append(timed(step, device))
        if len(times) >= 6 and sum(times[-3:]) > 0.95 * sum(times[-6:-3]):
            return len(times), True
    return len(times), False


def summary(values: list[float], unit: str, convention: str = "") -> Metric:
    """Return the median of samples in their order, with its 95 % interval; one wider than ±5 % carries a warning."""
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
    """Return a quantile of the samples with its 95 % interval; None where too few lie beyond it to know it."""
    if len(values) * (1 - share) < BEYOND:
        return None
    value, low, high = quantile_interval(values, share)
    return Metric(value=value, unit=unit, low=low, high=high, convention=convention)


def disturbed(metric: Metric, reasons: str) -> Metric:
    """Return a time that the machine spoilt, with the reasons in words; it is compared with none."""
    return replace(metric, warning=reasons, flags=frozenset({"machine_disturbed"}))


def combine(rounds: Sequence[Metric]) -> Metric:
    """Return one metric for its rounds: the median of their medians, and the interval that those medians give.

    Within a round samples are alike, between rounds the machine drifts: only the medians count as independent. A round
    without samples of its own (a percentile) counts with its value.
    """
    medians = [m.value for m in rounds]
    whole = _metric(medians, median_interval(medians), rounds[0].unit, rounds[0].convention)
    samples = [m.samples or (m.value,) for m in rounds]
    return replace(
        whole,
        samples=tuple(s for taken in samples for s in taken),
        rounds=tuple(map(len, samples)),
    )


def done(taken: list[float], elapsed: float, budget: Budget) -> bool:
    """Say whether so many samples, taken in so many seconds, will do."""
    if len(taken) >= budget.least and elapsed >= budget.max_seconds:
        return True
    if len(taken) < ENOUGH or elapsed < budget.min_seconds:
        return False
    if len(taken) % (len(taken) // NUM_BATCHES):
        return False  # a look sorts all samples: one a tenth more will do
    median, low, high = serial_interval(taken)
    return low is not None and high is not None and high - low <= 2 * budget.precision * median
