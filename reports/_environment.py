"""The environment table: one column per machine, one row per property; and what differs between two runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..address import label
from ..result import Result, is_file
from ._table import MISSING, Cell, Column, Row, Table, printable

MOMENTARY = ("load", "temperature_c", "sm_clock_mhz", "memory_clock_mhz")


def table(results: Sequence[Result]) -> Table:
    """Return one column per machine; a property that differed between its cases lists its first four values."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for result in (r for r in results if r.environment):
        seen = found.setdefault(result.machine, {})
        for key, value in _flat(result.environment):
            seen.setdefault(key, {})[value] = None
    keys = dict.fromkeys(key for seen in found.values() for key in seen)
    columns = [Column(name=name, header=name, numeric=False) for name in ("", *found)]
    cells = ((Cell(text=key), *(Cell(text=_several(seen.get(key, {}))) for seen in found.values())) for key in keys)
    return Table(title="Environment", columns=tuple(columns), rows=tuple(Row(cells=row) for row in cells))


def differences(a: Sequence[Result], b: Sequence[Result]) -> Table | None:
    """Return what differs between two runs' environments and sources, and nothing else; None if nothing does.

    Sources count if both runs have them; readings that change from moment to moment do not.
    """
    around = [_collected(_steady(result) for result in side) for side in (a, b)]
    sources = [_collected(_sources(result) for result in side) for side in (a, b)]
    shared = [key for key in sources[0] if key in sources[1]]
    pairs = [(key, [side.get(key, {}) for side in around]) for key in {**around[0], **around[1]}]
    pairs += [(key, [side[key] for side in sources]) for key in shared]
    rows = tuple(_row(key, *values) for key, values in pairs if set(values[0]) != set(values[1]))
    columns = tuple(Column(name=name, header=name, numeric=False) for name in ("", "A", "B"))
    return Table(title="What differs around them", columns=columns, rows=rows) if rows else None


def _row(key: str, *values: dict[str, None]) -> Row:
    return Row(cells=(Cell(text=printable(key)), *(Cell(text=printable(_several(v)) or MISSING) for v in values)))


def _collected(properties: Iterable[Iterable[tuple[str, str]]]) -> dict[str, dict[str, None]]:
    """Return the values of each property, each once."""
    found: dict[str, dict[str, None]] = {}
    for key, value in (pair for some in properties for pair in some):
        found.setdefault(key, {})[value] = None
    return found


def _steady(result: Result) -> Iterable[tuple[str, str]]:
    return ((key, value) for key, value in _flat(result.environment) if not key.endswith(MOMENTARY))


def _sources(result: Result) -> Iterable[tuple[str, str]]:
    return ((label(name), value) for name, value in result.provenance.items() if is_file(name))


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
