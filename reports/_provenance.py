"""Rows that other code or versions measured than the newest rows: a mark per row, and one legend for all."""

from __future__ import annotations

from collections.abc import Sequence

from ..result import Result, changes, is_file, shortened

MOST = 6  # changes that the legend names


def marks(results: Sequence[Result]) -> list[str]:
    """Return the legend for each result that is to be marked, "" for the others.

    Sources are compared with those of the newest row that has them, versions only on the same machine. A row without a
    record is marked if any other has one; one that a run kept in spite of changes (`stale`), always.
    """
    newest: dict[tuple[str, str], str] = {}
    for result in sorted(results, key=lambda result: result.started):
        newest.update({(name, _where(name, result)): value for name, value in result.provenance.items()})
    found = [_changes(result, newest) for result in results]
    named = shortened(list(dict.fromkeys(change for row in found for change in row)), MOST)
    legend = f"measured by other code or versions than the newest rows: {named}; `reelbench run` measures it again"
    return [legend if row else "" for row in found]


def _changes(result: Result, newest: dict[tuple[str, str], str]) -> list[str]:
    if not result.metrics:
        return []
    kept = result.details.get("stale", [])
    if not result.provenance:
        return [*kept, *(["unknown code"] if newest else [])]
    return [
        *kept,
        *changes(result.provenance, {name: newest[name, _where(name, result)] for name in result.provenance}),
    ]


def _where(name: str, result: Result) -> str:
    return "" if is_file(name) else result.machine
