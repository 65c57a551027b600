"""The one measuring loop: warm up until steady, synchronise, one sample a step, stop when the median is known.

Timing begins after the device is idle and ends after it is idle again, so a sample is the time a user waits. The loop
ends when the 95 % interval of the median is within ±`precision` of it, or at `max_seconds`, never before `min_seconds`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from .result import Metric
from .statistics import median_interval

MIN_SAMPLES = 10
UNSTEADY = 0.05


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a measurement may take, in seconds, and how sharp the median must become (relative half width)."""

    min_seconds: float = 0.5
    max_seconds: float = 3.0
    precision: float = 0.02


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has finished all queued work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def samples(step: Callable[[], object], device: torch.device | str, budget: Budget = Budget()) -> list[float]:
    """Return the seconds of each call of `step`, warm-up left out."""
    warm_up(step, device, limit=budget.max_seconds / 2)
    taken: list[float] = []
    begin = time.perf_counter()
    while not _done(taken, time.perf_counter() - begin, budget):
        taken.append(timed(step, device))
    return taken


def timed(step: Callable[[], object], device: torch.device | str) -> float:
    """Return the seconds of one call, the device idle before and after."""
    synchronize(device)
    begin = time.perf_counter()
    step()
    synchronize(device)
    return time.perf_counter() - begin


def warm_up(step: Callable[[], object], device: torch.device | str, limit: float) -> int:
    """Call `step` until the last three calls are no faster than the three before them; return the number of calls."""
    times: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < limit:
        times.append(timed(step, device))
        if len(times) >= 6 and sum(times[-3:]) > 0.95 * sum(times[-6:-3]):
            break
    return len(times)


def summary(values: list[float], unit: str, convention: str = "") -> Metric:
    """Return the median of the samples with its 95 % interval; an interval wider than ±5 % carries a warning."""
    median, low, high = median_interval(values)
    unsteady = low is None or high is None or high - low > 2 * UNSTEADY * median
    warning = "unsteady: the interval is wider than ±5 %; close other programs or measure longer" if unsteady else ""
    return Metric(
        value=median, unit=unit, low=low, high=high, samples=tuple(values), convention=convention, warning=warning
    )


def combine(rounds: Sequence[Metric], warning: str = "") -> Metric:
    """Return one metric for its rounds: the median of their medians, and the interval that those medians give.

    Within a round samples are alike, between rounds the machine drifts: only the medians count as independent. A round
    without samples of its own (a percentile) counts with its value.
    """
    whole = summary([m.value for m in rounds], rounds[0].unit, rounds[0].convention)
    samples = [m.samples or (m.value,) for m in rounds]
    return replace(
        whole,
        samples=tuple(s for taken in samples for s in taken),
        rounds=tuple(map(len, samples)),
        warning=warning or whole.warning,
    )


def _done(taken: list[float], elapsed: float, budget: Budget) -> bool:
    if len(taken) >= 3 and elapsed >= budget.max_seconds:
        return True
    if len(taken) < MIN_SAMPLES or elapsed < budget.min_seconds:
        return False
    median, low, high = median_interval(taken)
    return low is not None and high is not None and high - low <= 2 * budget.precision * median
