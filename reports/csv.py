"""CSV: every measured number in full precision, with its interval, without published rows.

One row per case: its settings, then for each metric `name`, `name_low`, `name_high` in the stored unit (`params` counts
parameters, `data_wait_fraction` is a fraction), then warnings and the error.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ..result import Metric, Result
from ._provenance import marks
from ._table import MISSING, SETTINGS, Table, metric_columns, suite, views


def render(results: Sequence[Result], *, title: str = "") -> str:
    """Return a header line and one line per result; a missing number is an empty field. The title is unused."""
    names = [c.name for c in metric_columns(results)]
    numbers = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    case = ["case_id", "status", "model", "frozen", "views", *SETTINGS, "suite", "started", "seconds"]
    writer.writerow([*case, *numbers, "warnings", "error"])
    for result, stale in zip(results, marks(results), strict=True):
        values = [value for name in names for value in _numbers(result.metrics.get(name))]
        writer.writerow([*_case(result), *values, _warnings(result, stale), result.error])
    return text.getvalue()


def table(shown: Table) -> str:
    """Return a table as CSV: a header line, and its numbers in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.label for column in shown.columns])
    for row in shown.rows:
        writer.writerow(["" if c.text == MISSING else c.text if c.value is None else c.value for c in row.cells])
    return text.getvalue()


def _case(result: Result) -> list[str | float]:
    case = result.case
    settings = [*(get(result) for get in SETTINGS.values()), suite(result)]
    return [
        result.case_id, result.status, case.model, case.frozen, views(result), *settings, result.started,
        result.seconds,
    ]  # fmt: skip


def _numbers(metric: Metric | None) -> tuple[float | None, ...]:
    return (metric.value, metric.low, metric.high) if metric else (None, None, None)


def _warnings(result: Result, stale: str) -> str:
    warnings = [f"{name}: {metric.warning}" for name, metric in result.metrics.items() if metric.warning]
    return "; ".join([*warnings, *([stale] if stale else [])])
