"""The environment table: one column per machine, one row per property."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..result import Result
from ._table import Cell, Column, Row, Table, machine


def table(results: Sequence[Result]) -> Table:
    """Return one column per machine; a property that differed between its cases lists its first four values."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for result in (r for r in results if r.environment):
        seen = found.setdefault(machine(result.environment), {})
        for key, value in _flat(result.environment):
            seen.setdefault(key, {})[value] = None
    keys = dict.fromkeys(key for seen in found.values() for key in seen)
    columns = [Column(name=name, header=name, numeric=False) for name in ("", *found)]
    cells = ((Cell(text=key), *(Cell(text=_several(seen.get(key, {}))) for seen in found.values())) for key in keys)
    return Table(title="Environment", columns=tuple(columns), rows=tuple(Row(cells=row) for row in cells))


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Yield flattened names, such as `packages torch` or `gpus 0 name`, with their values."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(inner, f"{name} {key}".strip())
    elif value not in ("", None):
        yield name, str(value)


def _several(values: dict[str, None]) -> str:
    first = list(values)[:4]
    return ", ".join(first) + (", …" if len(values) > len(first) else "")
