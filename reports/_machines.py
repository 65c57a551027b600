"""Several machines in one report: their rows together, and a pivot table of one metric, a column per machine."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UserError, unknown
from ..result import Metric, Result, newest
from ._table import Cell, Column, Row, Table, metric_cell, metric_columns, printable, several

PIVOTED = ("latency_ms", "throughput_clips_s", "end_to_end_clips_s")


def grouped(results: Sequence[Result]) -> list[Result]:
    """Return the results with those of a machine together, in order of the machines' first appearance."""
    if not several(results):
        return list(results)
    order = {name: i for i, name in enumerate(dict.fromkeys(r.machine for r in results if r.machine))}
    return sorted(results, key=lambda r: order.get(r.machine, len(order)))


def chosen(results: Sequence[Result], pattern: str) -> list[Result]:
    """Return the results of the machines whose names contain a text. Raises UserError if there are none."""
    found = [r for r in results if pattern.lower() in r.machine.lower()]
    if not found:
        raise UserError(
            f"--machine '{pattern}' is none of {', '.join(dict.fromkeys(r.machine for r in results if r.machine))}"
        )
    return found


def speeds(results: Sequence[Result]) -> Table | None:
    """Return the pivot table of the first number of `PIVOTED` that there is; None of a single machine, or without."""
    found = next((name for name in PIVOTED if any(name in r.metrics for r in results)), None)
    return pivot(results, found) if found and several(results) else None


def pivot(results: Sequence[Result], name: str) -> Table:
    """Return a row per case and a column per machine, of a metric's number.

    Further columns have each machine's ratio to the first one, where both have the case. Raises UserError if no result
    has such a number.
    """
    columns = {c.name: c for c in metric_columns(results)}
    if name not in columns:
        raise unknown("number of a metric", name, columns)
    column = columns[name]
    cases: dict[str, dict[str, Result]] = {}
    for result in newest(results):
        if column.name in result.metrics:
            cases.setdefault(result.case_id, {})[result.machine] = result
    machines = list(dict.fromkeys(r.machine for r in grouped(results) if column.name in r.metrics))
    return _table(column, machines, cases)


def _table(column: Column, machines: Sequence[str], cases: dict[str, dict[str, Result]]) -> Table:
    first, *others = machines
    shared = [m for m in others if any({first, m} <= row.keys() for row in cases.values())]
    model, case = (Column(name=n, header=h, numeric=False) for n, h in (("model", "model"), ("case_id", "case")))
    numbers = [
        *(Column(name=m, header=printable(m), unit=column.unit, better=column.better) for m in machines),
        *(Column(name=f"ratio {m}", header=f"{printable(m)} / {printable(first)}") for m in shared),
    ]
    rows = [_row(column, row, machines, shared) for row in cases.values()]
    return Table(
        title=f"By machine: {column.header}",
        columns=(model, *numbers, case),
        rows=tuple(rows),
        caption="Ratios only where both machines have the case." if shared else "",
    )


def _row(column: Column, row: dict[str, Result], machines: Sequence[str], shared: Sequence[str]) -> Row:
    result = next(iter(row.values()))
    metrics = {machine: found.metrics[column.name] for machine, found in row.items()}
    cells = (
        Cell(text=printable(_configuration(result))),
        *(metric_cell(column, metrics.get(machine)) for machine in machines),
        *(_ratio(metrics.get(machine), metrics.get(machines[0])) for machine in shared),
        Cell(text=result.case_id),
    )
    return Row(cells=cells, case_id=result.case_id, machine=result.machine)


def _configuration(result: Result) -> str:
    """Return the model with what differs from the usual, such as `tsm/micro, bf16, compile`."""
    case = result.case
    unusual = [case.precision, case.mode.replace("_", " "), "channels last" if case.channels_last else ""]
    return ", ".join([case.label, *(part for part in unusual if part not in ("fp32", "eager", ""))])


def _ratio(metric: Metric | None, base: Metric | None) -> Cell:
    if metric is None or base is None or not base.value:
        return Cell()
    ratio = metric.value / base.value
    return Cell(text=f"{ratio:.2f}", value=ratio)
