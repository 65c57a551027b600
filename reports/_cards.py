"""The summary cards of the HTML report: number of cases, best value of each headline metric, Pareto front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..result import Result
from ._points import COLUMNS, Plot, plot
from ._stats import pareto
from ._table import Column, several

HEADLINES = ("latency_ms", "throughput_clips_s", "energy_j_clip")  # besides the plot's accuracy


@dataclass(frozen=True)
class Card:
    """A summary card: a label, a figure, and a detail such as the model that it belongs to."""

    label: str
    figure: str
    detail: str


def cards(results: Sequence[Result]) -> list[Card]:
    """Return the cards for which the results have data."""
    shown = plot(results)
    found = [_cases(results)]
    if shown is not None:
        found += _best(shown.y, [r for r in results if r.case.data == shown.data])
    for name in HEADLINES:
        found += _best(COLUMNS[name], results)
    return [*found, _front(shown)] if shown is not None else found


def _cases(results: Sequence[Result]) -> Card:
    statuses = Counter(r.status for r in results)
    parts = [f"{statuses[status]} {status}" for status in sorted(statuses, key=lambda s: s != "ok")]
    return Card("cases", str(len(results)), ", ".join(parts))


def _best(column: Column, results: Sequence[Result]) -> list[Card]:
    found = [r for r in results if column.name in r.metrics]
    if not found:
        return []
    choose, extreme = (max, "highest") if column.better == "higher" else (min, "lowest")
    best = choose(found, key=lambda r: r.metrics[column.name].value)
    value = f"{column.text(best.metrics[column.name].value)} {column.unit}"
    detail = f"{best.case.label}, {best.machine}" if several(results) else best.case.label
    return [Card(f"{extreme} {column.header}", value, detail)]


def _front(shown: Plot) -> Card:
    front = pareto([(p.x, p.y) for p in shown.points], lower_x=shown.x.better == "lower")
    return Card(
        "on the Pareto front", f"{len(front)} of {len(shown.points)}", f"{shown.y.header} over {shown.x.header}"
    )
