"""The tables behind the measured one: curves as numbers, operations, what the machine did, where the time went."""

from __future__ import annotations

from collections.abc import Sequence

from ..harness.result import Result
from . import _curves, _operations, _spent, _state
from ._table import Table

TABLES = {
    "views": _curves.views,
    "batches": _curves.batches,
    "operations": _operations.table,
    "state": _state.table,
    "spent": _spent.table,
}


def tables(results: Sequence[Result], left_out: Sequence[str] = ()) -> dict[str, Table]:
    """Return the tables that these results can fill, by name, but for those `left_out`."""
    found = {name: make(results) for name, make in TABLES.items() if name not in left_out}
    return {name: table for name, table in found.items() if table is not None}
