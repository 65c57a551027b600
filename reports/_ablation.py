"""Ablations: each step of an `Ablation` beside its base, with the difference of accuracies on the same videos."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..result import Result
from ._table import COLUMNS, Cell, Column, Row, Table, metric_cell, metric_columns, number, printable, several

SHOWN = ("top1", "map", "params", "gflops_view", "latency_ms", "throughput_clips_s")
NORMAL = 1.959964  # the quantile of 97.5 %


def tables(results: Sequence[Result]) -> list[Table]:
    """Return a table per base and machine of which there are steps: the base first, then its steps in their order."""
    by_key = {(r.case_id, r.machine): r for r in results}
    groups: dict[tuple[str, str], list[tuple[str, Result]]] = {}
    for result in results:
        for step, base in result.details.get("steps", ()):
            groups.setdefault((base, result.machine), []).append((step, result))
    several_machines = several(results)
    return [
        _table(by_key[key], steps, several_machines)
        for key, steps in groups.items()
        if key in by_key and any(result.case_id != key[0] for _, result in steps)
    ]


def paired_difference(only_a: float, only_b: float, count: float, design: float = 1.0) -> tuple[float, float, float]:
    """Return the difference b - a of two accuracies on the same videos, in points, and its 95 % interval.

    `only_a` and `only_b` are the numbers of the `count` videos that only one of them got right, worth `design`
    times fewer independent ones. A. Agresti, Y. Min, "Simple improved confidence intervals for comparing matched
    proportions", Statistics in Medicine 24 (2005): Wald's interval with half a video more in each of the four cells.
    """
    total, a, b = count / design + 2, only_a / design + 0.5, only_b / design + 0.5
    middle = (b - a) / total
    half = NORMAL * math.sqrt((a + b) / total - middle**2) / math.sqrt(total)
    value = 100 * (only_b - only_a) / count
    return value, min(value, 100 * max(-1.0, middle - half)), max(value, 100 * min(1.0, middle + half))


def _table(base: Result, steps: Sequence[tuple[str, Result]], named: bool) -> Table:
    measured = [result for _, result in steps]
    found = {c.name for c in metric_columns(measured)}
    shown = [COLUMNS[name] for name in SHOWN if name in found]
    accuracy = next((c for c in shown if c.kind == "share"), None)
    trained = any("train" in result.details for result in measured)
    differences = [_DIFFERENCE] if accuracy else []
    hours = Column(name="hours", header="training" if trained else "case", unit="h")
    others = [(step, result) for step, result in steps if result.case_id != base.case_id]
    rows = [("base", base), *others]
    return Table(
        title=f"Ablation of {printable(base.case.label)}{f' on {printable(base.machine)}' if named else ''}",
        columns=(_STEP, *shown[:1], *differences, *shown[1:], hours, _CASE),
        rows=tuple(_row(step, result, base, shown, accuracy, trained) for step, result in rows),
        caption="Differences are those of the same videos, with intervals that cover 95 % (Agresti and Min)."
        if any(result.details.get("paired") for result in measured)
        else "",
    )


def _row(
    step: str, result: Result, base: Result, shown: Sequence[Column], accuracy: Column | None, trained: bool
) -> Row:  # fmt: skip
    numbers = [metric_cell(column, result.metrics.get(column.name)) for column in shown]
    difference = [_difference(result, base, accuracy)] if accuracy else []
    cells = (
        Cell(text=printable(step)), *numbers[:1], *difference, *numbers[1:], _hours(result, trained),
        Cell(text=result.case_id),
    )  # fmt: skip
    return Row(cells=cells, case_id=result.case_id, machine=result.machine, status=result.status)


def _difference(result: Result, base: Result, accuracy: Column) -> Cell:
    """Return the difference to the base: on the same videos if their predictions are known, else without interval."""
    if result is base:
        return Cell()
    pair = result.details.get("paired", {}).get(base.case_id)
    if pair is not None and accuracy.name == "top1":
        value, low, high = paired_difference(*pair)
        return Cell(text=f"{value:+.1f}", value=value, interval=f"[{low:+.1f}, {high:+.1f}]")
    mine, theirs = result.metrics.get(accuracy.name), base.metrics.get(accuracy.name)
    if mine is None or theirs is None:
        return Cell()
    return Cell(text=f"{mine.value - theirs.value:+.1f}", value=mine.value - theirs.value)


def _hours(result: Result, trained: bool) -> Cell:
    training = result.details.get("train")
    seconds = (training["seconds"] if training else None) if trained else result.seconds
    return Cell() if seconds is None else Cell(text=number(seconds / 3600), value=seconds / 3600)


_STEP = Column(name="model", header="step", numeric=False)
_DIFFERENCE = Column(name="difference", header="difference", unit="points", better="higher")
_CASE = Column(name="case_id", header="case", numeric=False)
