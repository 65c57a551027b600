"""Which cases of one report differ: every pair of them tested, the p-values corrected together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

from ..result import Metric, Result
from ._ablation import paired_difference
from ._difference import ALPHA, UNTESTED, Difference, between, verdict
from ._stats import benjamini_hochberg, sign_flip
from ._table import Column

ALL_PAIRS = 30  # cases; of more, only neighbors in the order of their values are tested
Finding = Literal["differ", "alike", "doubtful", "untested"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two cases by their places in the results, `low` with the lower value, and whether they differ.

    `size` is how many times as large the other value is, or of percentages the points by which it is, `interval` that
    of the size, if there is one; `p` is corrected, None if not tested.
    """

    low: int
    high: int
    size: float
    interval: tuple[float, float] | None
    p: float | None
    finding: Finding = "untested"


def pairs(results: Sequence[Result], column: Column) -> list[Pair]:
    """Return the pairs of the cases that have a number, of one machine and data set each; the closest first."""
    order = sorted(
        (i for i, r in enumerate(results) if column.name in r.metrics), key=lambda i: _value(results[i], column)
    )
    tried = combinations(order, 2) if len(order) <= ALL_PAIRS else pairwise(order)
    same = [(i, j) for i, j in tried if _comparable(results[i], results[j], column)]
    tests = [
        _share(results, i, j, column) if column.kind == "share" else _ratio(results, i, j, column) for i, j in same
    ]
    corrected = iter(benjamini_hochberg([pair.p for pair, _ in tests if pair.p is not None]))
    found = []
    for pair, difference in tests:
        p = next(corrected) if pair.p is not None else None
        found.append(dataclasses.replace(pair, p=p, finding=_finding(difference, p)))
    return sorted(found, key=lambda pair: pair.size)


def groups(results: Sequence[Result], column: Column, found: Sequence[Pair]) -> list[list[int]]:
    """Return the cases, neighbors in the order of their values, of which no two are shown to differ; the largest first.

    A group that is part of another one is left out.
    """
    near = {frozenset((pair.low, pair.high)) for pair in found if pair.finding in ("alike", "doubtful")}
    order = sorted({i for pair in found for i in (pair.low, pair.high)}, key=lambda i: _value(results[i], column))
    runs: list[tuple[int, int]] = []
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and all(frozenset((order[k], order[end])) in near for k in range(start, end)):
            end += 1
        if end - start > 1 and (not runs or end > runs[-1][1]):
            runs.append((start, end))
    return sorted((order[start:end] for start, end in runs), key=len, reverse=True)


def _value(result: Result, column: Column) -> float:
    return result.metrics[column.name].value


def _comparable(a: Result, b: Result, column: Column) -> bool:
    return a.machine == b.machine and (column.kind != "share" or a.case.data == b.case.data)


def _ratio(results: Sequence[Result], i: int, j: int, column: Column) -> tuple[Pair, Difference]:
    d = between(column, [results[i]], [results[j]])
    size, low, high = d.ratio or (math.inf, None, None)
    interval = None if low is None or high is None else (low, high)
    return Pair(low=i, high=j, size=size, interval=interval, p=d.p), d


def _share(results: Sequence[Result], i: int, j: int, column: Column) -> tuple[Pair, Difference]:
    """Return the pair of two percentages: tested on the same videos if their predictions are known."""
    a, b = results[i], results[j]
    d = between(column, [a], [b])
    single = column.name == "top1" and not any("seeds" in r.details for r in (a, b))
    counts = b.details.get("paired", {}).get(a.case_id) if single else None
    if counts is None:
        size = _value(b, column) - _value(a, column)
        half = math.hypot(_half(a.metrics[column.name]), _half(b.metrics[column.name]))
        return Pair(low=i, high=j, size=size, interval=(size - half, size + half) if half else None, p=d.p), d
    size, low, high = paired_difference(*counts)
    only_a, only_b, _, design = counts
    p = sign_flip([-1] * int(only_a) + [1] * int(only_b)) if design == 1 else _normal(only_a, only_b, design)
    return Pair(low=i, high=j, size=size, interval=(low, high), p=p), dataclasses.replace(d, p=p)


def _normal(only_a: float, only_b: float, design: float) -> float:
    """Return the p-value of McNemar's test where the videos of a group are alike, `design` times fewer in effect."""
    return math.erfc(abs(only_b - only_a) / math.sqrt(2 * design * max(1.0, only_a + only_b)))


def _half(metric: Metric) -> float:
    return 0.0 if metric.low is None or metric.high is None else (metric.high - metric.low) / 2


def _finding(d: Difference, p: float | None) -> Finding:
    if d.column.kind == "share" and p is not None:
        return "differ" if p < ALPHA else "alike"
    said = verdict(d, p)
    if said.startswith("doubtful"):
        return "doubtful"
    if p is None:
        return "alike" if said == "equal" else "untested"
    return "alike" if said in ("no difference", "too few rounds to tell", UNTESTED) else "differ"
