"""Curves as tables: accuracy against the views per video and their cost, and throughput against the batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..result import Result
from ._table import Cell, Column, Table, by_case

VIEWS = (
    Column(name="accuracy", header="accuracy", unit="%", decimals=1),
    Column(name="gflops_video", header="GFLOPs/video"),
    Column(name="ms_video", header="time", unit="ms/video"),
    Column(name="j_video", header="energy", unit="J/video"),
)
BATCHES = (
    Column(name="ms", header="time", unit="ms"),
    Column(name="clips_s", header="throughput", unit="clips/s"),
)


def views(results: Sequence[Result]) -> Table | None:
    """Return a row per case and view protocol; None if no case has `view_budget` data."""
    found = [(r, row["views"], with_energy(r, row)) for r in results for row in r.details.get("view_budget", ())]
    key = Column(name="views", header="views", numeric=False)
    caption = "Clips × crops; the costs are those of all views of a video, the model alone."
    return _table("Accuracy against the views of a video", key, VIEWS, found, caption)


def batches(results: Sequence[Result]) -> Table | None:
    """Return a row per case and batch size; None if no case searched for its best batch."""
    found = [(r, str(row["batch"]), row) for r in results for row in r.details.get("batch_sweep", ())]
    key = Column(name="batch", header="batch")
    return _table("Throughput against the batch", key, BATCHES, found, "Clips in a batch; the model alone.")


def with_energy(result: Result, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `view_budget` with `j_video`, the joules of all views of a video; None if not measured."""
    energy = result.metrics.get("energy_j_clip")
    return {**row, "j_video": energy.value * row["count"] if energy else None}


def _table(
    title: str,
    key: Column,
    columns: Sequence[Column],
    found: Sequence[tuple[Result, str, Mapping[str, Any]]],
    caption: str,
) -> Table | None:
    if not found:
        return None
    used = [c for c in columns if any(row.get(c.name) is not None for _, _, row in found)]
    rows = [(result, [Cell(text=name), *(_cell(c, row) for c in used)]) for result, name, row in found]
    return by_case(title, [key, *used], rows, f"{caption} Intervals cover 95 %.")


def _cell(column: Column, row: Mapping[str, Any]) -> Cell:
    """Return a number as a cell; the row's interval belongs to `accuracy` or `ms`."""
    value = row.get(column.name)
    if value is None:
        return Cell()
    interval = column.interval(row["low"], row["high"]) if column.name in ("accuracy", "ms") else ""
    return Cell(text=column.text(value), value=value, interval=interval)
