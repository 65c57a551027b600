"""FLOPs by kind of operation, and the operations that fvcore does not count."""

from __future__ import annotations

from collections.abc import Sequence

from ..result import Result
from ._table import Cell, Column, Table, by_case, printable

CAPTION = (
    "Billions of multiply-adds of one view by kind of operation, as fvcore counts them. What it does not count, with "
    "how often it runs, is cheap arithmetic an element, or moves data."
)


def table(results: Sequence[Result], most: int | None = None) -> Table | None:
    """Return a row per case with FLOP counts, at most `most`; None if there are none."""
    counted = [r for r in results if "flops_by_operator" in r.details]
    kinds = dict.fromkeys(kind for r in counted for kind, n in _counts(r).items() if n)
    if not kinds:
        return None
    columns = [Column(name=kind, header=printable(kind).replace("_", " "), unit="G", scale=1e-9) for kind in kinds]
    left = Column(name="left", header="not counted", numeric=False)
    rows = [(r, [*(_billions(r, column) for column in columns), _left(r)]) for r in counted[:most]]
    return by_case("What the operations are", [*columns, left], rows, CAPTION, left=len(counted) - len(rows))


def _billions(result: Result, column: Column) -> Cell:
    count = _counts(result).get(column.name)
    return Cell(text=column.text(count), value=count * column.scale) if count else Cell()


def _counts(result: Result) -> dict[str, float]:
    return result.details.get("flops_by_operator", {})


def _left(result: Result) -> Cell:
    skipped = sorted(result.details.get("flops_unsupported_operators", {}).items(), key=lambda pair: -pair[1])
    text = ", ".join(f"{name.removeprefix('aten::')} {times}" for name, times in skipped)
    return Cell(text=printable(text)) if text else Cell()
