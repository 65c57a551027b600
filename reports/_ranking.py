"""Ranking reversals: pairs of models whose order in latency depends on the machine or the way of running."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

from ..result import Metric, Result

MOST = 50  # sentences


def reversals(results: Sequence[Result]) -> list[str]:
    """Return a sentence per pair of models whose latency order differs between two configurations.

    A model counts as faster only if the 95 % intervals do not overlap. After `MOST` sentences one counts the rest.
    """
    configurations: dict[str, dict[str, Metric]] = defaultdict(dict)
    machines = {result.machine for result in results}
    for result in results:
        if "latency_ms" in result.metrics:
            where = [result.machine] if len(machines) > 1 else []
            name = ", ".join([*where, _configuration(result)])
            configurations[name][result.case.label] = result.metrics["latency_ms"]
    found = []
    for (first, here), (second, there) in combinations(configurations.items(), 2):
        for a, b in combinations([model for model in here if model in there], 2):
            before, after = _order(here[a], here[b]), _order(there[a], there[b])
            if before * after < 0:
                quick, slow = (a, b) if before < 0 else (b, a)
                found.append(_sentence(quick, slow, (first, here), (second, there)))
    left = len(found) - MOST
    return found[:MOST] + ([f"… and {left} more pairs."] if left > 0 else [])


def summary(results: Sequence[Result]) -> str:
    """Return the first reversal and how many there are besides, in one line; "" without any."""
    first, *others = reversals(results) or [""]
    return f"{first} The order of {len(others)} other pairs depends on that, too." if others else first


def _configuration(result: Result) -> str:
    case = result.case
    parts = [case.device, case.precision, case.mode.replace("_", " ")]
    return ", ".join([*parts, *(["channels last"] if case.channels_last else [])])


def _order(a: Metric, b: Metric) -> int:
    """Return -1 if a is faster, 1 if b is, 0 if the intervals overlap."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return 0
    return -1 if a.high < b.low else 1 if b.high < a.low else 0


def _sentence(quick: str, slow: str, here: tuple[str, dict[str, Metric]], there: tuple[str, dict[str, Metric]]) -> str:
    def pair(configuration: dict[str, Metric]) -> str:
        return f"{configuration[quick].value:#.3g} against {configuration[slow].value:#.3g} ms"

    return f"{quick} is faster than {slow} in {here[0]} ({pair(here[1])}), but slower in {there[0]} ({pair(there[1])})."
