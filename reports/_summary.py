"""The tables that every text format shows: what was measured, by machine, and what is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..result import Result
from . import _ablation, _limits, _machines, _published
from ._measured import ALL, conventions, measured
from ._ranking import summary
from ._table import Table, printable


def tables(results: Sequence[Result], columns: Sequence[str] = (ALL,)) -> list[Table]:
    """Return the measured table and those that some suites need, and unless `columns` names numbers, published ones.

    Raises UserError if no result has such a number.
    """
    every = ALL in columns
    shown = measured(results, () if every else columns)
    shown = replace(shown, notes=tuple(filter(None, (*shown.notes, conventions(shown.columns), summary(results)))))
    gaps, printed = _published.gaps(results), _published.table(results)
    limiting = _limits.table(results)
    more = [table for table in (limiting, gaps, printed) if table and table.rows]
    return [shown, *special(results), *(more if every else [])]


def special(results: Sequence[Result]) -> list[Table]:
    """Return the tables that answer what some suites ask: ablations, and a number by machine."""
    speeds = _machines.speeds(results)
    return [*_ablation.tables(results), *([speeds] if speeds else [])]


def limits(results: Sequence[Result]) -> list[str]:
    """Return the sentences on each case's bottleneck (see `_limits`), without control characters."""
    return [printable(sentence) for sentence in _limits.sentences(results)]
