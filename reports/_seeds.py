"""Merge cases that differ only in their seed: each metric's mean over the seeds, with its t-interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..intervals import total
from ..result import Metric, Result, changes
from ..spec import Case
from ..student import t_quantile
from ._calibration import states


def merge(results: Sequence[Result]) -> list[Result]:
    """Merge finished cases that differ only in their seed, in order of first appearance.

    A merged result is the first case's, with means, and its `details` have the `seeds` and the `cases`. Other results
    are returned unchanged: failed ones, other machines, and groups in which a seed occurs twice.
    """
    groups: dict[Any, list[Result]] = {}
    for number, result in enumerate(results):
        groups.setdefault(_key(result) if result.status == "ok" else number, []).append(result)
    return [merged for group in groups.values() for merged in _merged(group)]


def mean_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of two or more normally distributed samples and its 95 % t-interval.

    Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    mean, spread = statistics.fmean(samples), statistics.stdev(samples)
    half = t_quantile(len(samples) - 1) * spread / math.sqrt(len(samples))
    return mean, mean - half, mean + half


def _key(result: Result) -> tuple[Case, str]:
    return Case.from_json({**result.case.to_json(), "seed": 0}), result.machine


def _merged(group: list[Result]) -> list[Result]:
    seeds = [result.case.seed for result in group]
    if len(set(seeds)) < len(seeds) or len(group) == 1:
        return group
    names = dict.fromkeys(name for result in group for name in result.metrics)
    metrics = {name: _mean([r.metrics[name] for r in group if name in r.metrics]) for name in names}
    details = {**group[0].details, "seeds": seeds, "cases": [result.case_id for result in group]}
    if any(seen := [state for result in group for state in states(result)]):
        details["rounds"] = seen
    if breakdown := total(result.details.get("time_breakdown", {}) for result in group):
        details["time_breakdown"] = breakdown
    differing = [change for other in group[1:] for change in changes(group[0].provenance, other.provenance)]
    if stale := dict.fromkeys([*differing, *(text for result in group for text in result.details.get("stale", ()))]):
        details["stale"] = list(stale)
    if any(result.details.get("learned") is False for result in group):
        details["learned"] = False
    if advice := next((found for result in group if (found := result.details.get("advice"))), ""):
        details["advice"] = advice
    return [replace(group[0], metrics=metrics, details=details, seconds=sum(result.seconds for result in group))]


def _mean(found: list[Metric]) -> Metric:
    """Return a metric's mean over seeds, percentages clipped to 0..100; a metric equal for all seeds unchanged."""
    values = [metric.value for metric in found]
    if len(set(values)) == 1:
        return found[0]
    mean, low, high = mean_interval(values)
    if found[0].unit == "%":
        low, high = max(low, 0.0), min(high, 100.0)
    convention = "; ".join(part for part in (found[0].convention, f"mean over {len(found)} seeds, t-interval") if part)
    warnings = dict.fromkeys(metric.warning for metric in found if metric.warning)
    return replace(
        found[0], value=mean, low=low, high=high, samples=tuple(values), rounds=(), convention=convention,
        warning="; ".join(warnings), flags=frozenset(flag for metric in found for flag in metric.flags),
    )  # fmt: skip
