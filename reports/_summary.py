"""The tables that every text format shows: what was measured, by machine, and what is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..result import Result
from . import _ablation, _machines, _published
from ._limits import sentences
from ._ranking import reversals
from ._table import Table, measured, printable


def tables(results: Sequence[Result]) -> list[Table]:
    """Return the measured table and, if there is anything in them, those by machine and of published rows.

    Notes of the measured table name bottlenecks and ranking reversals.
    """
    shown, printed = measured(results), _published.table(results)
    more = [*_ablation.tables(results), _machines.speeds(results), _published.gaps(results)]
    shown = replace(shown, notes=(*shown.notes, *limits(results), *reversals(results)))
    return [shown, *(table for table in more if table), *([printed] if printed.rows else [])]


def limits(results: Sequence[Result]) -> list[str]:
    """Return the sentences on each case's bottleneck (see `_limits`), without control characters."""
    return [printable(sentence) for sentence in sentences(results)]
