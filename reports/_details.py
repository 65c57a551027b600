"""The detail tables: curves as numbers, FLOPs by operation, the machine's state, the time breakdown."""

from __future__ import annotations

from collections.abc import Sequence

from ..result import Result
from . import _curves, _operations, _state, _time_breakdown
from ._table import Table

ACCOUNTS = {"operations": _operations.table, "state": _state.table, "time_breakdown": _time_breakdown.table}


def tables(results: Sequence[Result]) -> list[Table]:
    """Return the detail tables for which the results have data."""
    found = [make(results) for make in (_curves.views, _curves.batches)]
    return [table for table in found if table is not None] + list(accounts(results).values())


def accounts(results: Sequence[Result], most: int | None = None) -> dict[str, Table]:
    """Return the detail tables other than curves, by name, with at most `most` rows each."""
    found = {name: make(results, most) for name, make in ACCOUNTS.items()}
    return {name: table for name, table in found.items() if table is not None}
