"""The time breakdown of a run: process starts, compilation, warm-up, training, FLOP counting, measuring, harness.

The harness's overhead is the remainder of the wall time: scoring, writing, waiting for processes to end. The overhead
factor is (measured + harness) / measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..intervals import total
from ..result import Result
from ._table import Cell, Column, Table, by_case

APART = {
    "start": "process starts",
    "compile": "compiles",
    "warm_up": "warm-ups",
    "training": "training",
    "counting": "counting operations",
    "lost": "processes that died",
}
ALWAYS = ("start", "compile", "warm_up")
CAPTION = (
    "Seconds. Measured is the time inside timed steps and loops over videos; process starts include imports, building "
    "the model and a stream's first batch. The factor is that of measured and harness together over measured alone."
)


def sentence(results: Sequence[Result]) -> str:
    """Return a summary such as `measured 212 s of 301 s: process starts 60 s, …; the harness itself 8 s (1.04x)`."""
    breakdown = total(map(_account, results))
    if not breakdown:
        return "nothing was measured: every case had been finished"
    parts = [
        f"{label} {breakdown.get(name, 0.0):.0f} s"
        for name, label in APART.items()
        if name in ALWAYS or name in breakdown
    ]
    own = f"the harness itself {breakdown.get('rest', 0.0):.0f} s"
    factor = _factor(breakdown)
    overhead = f"{own} ({factor:.2f}x)" if factor else own
    return (
        f"measured {breakdown.get('measured', 0.0):.0f} s of {breakdown['wall']:.0f} s: {', '.join(parts)}; {overhead}"
    )


def table(results: Sequence[Result], most: int | None = None) -> Table | None:
    """Return a row per case, at most `most`; None if no result has a time breakdown."""
    breakdown = total(map(_account, results))
    if not breakdown:
        return None
    parts = {"wall": "wall", **APART, "measured": "measured", "rest": "harness itself"}
    columns = [
        Column(name=n, header=h, unit="s", decimals=1) for n, h in parts.items() if breakdown.get(n) or n in ALWAYS
    ]
    factor = Column(name="factor", header="factor", decimals=2, better="lower")
    rows = [(result, _cells(_account(result), columns, factor)) for result in results[:most]]
    summary = sentence(results)
    caption = f"{summary[0].upper()}{summary[1:]}. {CAPTION}"
    return by_case("Where the time went", [*columns, factor], rows, caption, left=len(results) - len(rows))


def _account(result: Result) -> Mapping[str, float]:
    return result.details.get("time_breakdown", {})


def _cells(breakdown: Mapping[str, float], columns: Sequence[Column], factor: Column) -> list[Cell]:
    found = [*((c, breakdown.get(c.name)) for c in columns), (factor, _factor(breakdown))]
    return [Cell() if value is None else Cell(text=c.text(value), value=value) for c, value in found]


def _factor(breakdown: Mapping[str, float]) -> float | None:
    measured = breakdown.get("measured")
    return (measured + breakdown.get("rest", 0.0)) / measured if measured else None
