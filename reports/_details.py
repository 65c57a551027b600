"""The tables behind the measured one: curves as numbers, operations, what the machine did, where the time went."""

from __future__ import annotations

from collections.abc import Sequence

from ..result import Result
from . import _curves, _operations, _state, _time_breakdown
from ._table import Table

ACCOUNTS = {"operations": _operations.table, "state": _state.table, "time_breakdown": _time_breakdown.table}


def tables(results: Sequence[Result]) -> list[Table]:
    """Return the tables that these results can fill."""
    found = [make(results) for make in (_curves.views, _curves.batches)]
    return [table for table in found if table is not None] + list(accounts(results).values())


def accounts(results: Sequence[Result], most: int | None = None) -> dict[str, Table]:
    """Return those that are no curves, by name; of each the first `most` rows."""
    found = {name: make(results, most) for name, make in ACCOUNTS.items()}
    return {name: table for name, table in found.items() if table is not None}
