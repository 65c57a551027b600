"""The table of what was measured, for all formats: a row per result.

It has columns for the metrics that any result has and for the settings that differ between cases. What all cases share
is in the caption, what all values of a column share is its convention, and what differs stands in the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..errors import UserError, unknown
from ..result import Metric, Result
from ..spec import Published
from . import _flags, _published
from ._published import PUBLISHED
from ._table import (
    MISSING,
    SETTINGS,
    USUAL,
    Cell,
    Column,
    Row,
    Table,
    metric_cell,
    metric_columns,
    per_view,
    printable,
    suite,
    views,
)  # fmt: skip

ALL = "all"  # in place of the names of numbers
FAILURES = 2  # failures that the notes tell
FLAGS = Column(name="flags", header="flags", numeric=False)


def measured(results: Sequence[Result], names: Sequence[str] = ()) -> Table:
    """Return the table of measured metrics, in the given order; with `names`, only these numbers of them.

    Raises UserError if no result has such a number.
    """
    found, printed = _flags.flags(results), _published.accuracies(results)
    columns = [_with_convention(column, results) for column in _numbers(results, names, any(printed))]
    if names:
        kept = {*names, ""}
        found = [[flag for flag in row if flag.number in kept] for row in found]
    settings = differing(results)
    texts = [Column(name=name, header=name, numeric=False) for name in settings]
    flagged = [FLAGS] if any(found) else []
    failed = [Column(name="status", header="status", numeric=False)] if any(r.status != "ok" for r in results) else []
    rows = tuple(
        Row(
            case_id=r.case_id, machine=r.machine, status=r.status, error=printable(r.error),
            cells=(
                Cell(text=printable(r.case.label)),
                *(Cell(text=_flags.letters(found[i]) or MISSING, hint=_hint(found[i])) for _ in flagged),
                *(Cell(text=printable(SETTINGS[name](r)) or MISSING) for name in settings),
                *(_cell(column, r, printed[i]) for column in columns),
                *(Cell(text=r.status) for _ in failed),
                _identity(r),
            ),
        )
        for i, r in enumerate(results)
    )  # fmt: skip
    return Table(
        title="Measured",
        columns=(
            Column(name="model", header="model", numeric=False), *flagged, *texts, *columns, *failed,
            Column(name="case_id", header="case", numeric=False),
        ),
        rows=rows,
        caption=_caption(results, settings, rows),
        notes=tuple(note for note in (_flags.legend(found), _missing(results), *_failures(results)) if note),
    )  # fmt: skip


def differing(results: Sequence[Result]) -> list[str]:
    """Return the names of the settings that differ between results."""
    return [name for name in SETTINGS if len(_kinds(name, results)) > 1]


def conventions(columns: Iterable[Column]) -> str:
    """Return what the values of each column share, in one line: `head included: params · batch 1, fp32: latency`."""
    headers: dict[str, list[str]] = {}
    for column in columns:
        if column.convention:
            headers.setdefault(column.convention, []).append(column.header)
    parts = [f"{', '.join(dict.fromkeys(names))}: {convention}" for convention, names in headers.items()]
    return f"Columns: {' · '.join(parts)}" if parts else ""


def _numbers(results: Sequence[Result], names: Sequence[str], published: bool) -> list[Column]:
    columns = metric_columns(results)
    if published:
        at = sum(column.kind == "share" for column in columns)
        columns.insert(at, PUBLISHED)
    by_name = {column.name: column for column in columns}
    for name in names:
        if name not in by_name:
            raise unknown("number of a metric", name, by_name) if by_name else UserError("no case measured a number")
    return [by_name[name] for name in names] if names else columns


def _with_convention(column: Column, results: Sequence[Result]) -> Column:
    """Return the column with the parts of the conventions that all its values have."""
    found = [parts(r.metrics[column.name]) for r in results if column.name in r.metrics]
    shared = [part for part in found[0] if all(part in other for other in found)] if found else []
    return replace(column, convention=printable(", ".join(shared)))


def parts(metric: Metric) -> list[str]:
    """Return the parts of a metric's convention: `batch 1`, `fp32`, `model only`."""
    return [part for part in metric.convention.replace(";", ",").split(", ") if part]


def _cell(column: Column, result: Result, printed: Published | None) -> Cell:
    if column.name == PUBLISHED.name:
        value = printed.top1 if printed else None
        return Cell() if printed is None or value is None else Cell(
            text=column.text(value), value=value, hint=_published.source(printed)
        )  # fmt: skip
    metric = result.metrics.get(column.name)
    cell = metric_cell(column, metric)
    if metric is None:
        return cell
    shared = column.convention.split(", ")
    return replace(
        cell,
        text=per_view(cell.text, views(result)) if column.name == "gflops_view" else cell.text,
        aside=", ".join(part for part in map(printable, parts(metric)) if part not in shared),
        hint=printable(metric.warning),
    )


def _hint(found: Sequence[_flags.Flag]) -> str:
    return "; ".join(dict.fromkeys(flag.reason for flag in found))


def _identity(result: Result) -> Cell:
    """Return the case's id; for a mean over seeds those of all its cases."""
    first, *others = result.details.get("cases", ()) or (result.case_id,)
    return Cell(text=first, aside=", ".join(others))


def _kinds(name: str, results: Sequence[Result]) -> set[str]:
    """Return the distinct values of a setting.

    Empty machines (the case died before recording its environment) and data (the case used no videos) do not count.
    """
    return {SETTINGS[name](r) for r in results} - ({""} if name in ("machine", "data") else set())


def _missing(results: Sequence[Result]) -> str:
    """Return a sentence on what the machines cannot measure."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for what in result.details.get("not_available", ()):
            found.setdefault(result.machine, {})[what] = None
    texts = [f"Not available on this device ({where}): {', '.join(what)}." for where, what in found.items()]
    return printable(" ".join(texts))


def _failures(results: Sequence[Result]) -> list[str]:
    """Return a note per error, with the cases that it stopped; of more than `FAILURES` the last note says how many."""
    cases: dict[str, list[str]] = {}
    for result in results:
        if result.status != "ok":
            cases.setdefault(result.error, []).append(f"{result.case.label} ({result.case_id})")
    notes = [printable(f"{', '.join(names)}: {error}") for error, names in cases.items()]
    more = len(notes) - FAILURES
    if more > 0:
        notes[FAILURES - 1] += f"; {more} more errors are in the HTML and the CSV report"
    return notes[:FAILURES]


def _caption(results: Sequence[Result], differ: Sequence[str], rows: Sequence[Row]) -> str:
    shared = {name: max(_kinds(name, results), default="") for name in SETTINGS if name not in differ}
    asked = ", ".join(dict.fromkeys(filter(None, map(suite, results))))
    plain = ("data", "machine", "device", "precision")
    texts = [
        printable(value) if name in plain else f"{name} {value}"
        for name, value in {"suite": asked, **shared}.items()
        if value and value not in USUAL
    ]
    intervals = any(cell.interval for row in rows for cell in row.cells)
    return " · ".join([*texts, *(["intervals cover 95 %"] if intervals else [])])
