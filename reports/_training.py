"""Training runs: their logs as `reelbench train` wrote them, a table of the runs, and the curves to draw.

A run that has not ended, or whose files were cut off or damaged, is shown as far as it can be read, with a note.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..address import label
from ..errors import printable
from ._table import Cell, Column, Row, Table
from ._table import printable as on_one_line

TRAIN, VALIDATION, JOB = "train.jsonl", "validation.jsonl", "job.json"
MARKS = 80  # a longer curve is reduced to the medians of this many parts
Point = tuple[float, float]  # step, value


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A run by its `name`: the rows of its logs by step, its configuration (`job`), and what could not be read."""

    name: str
    steps: tuple[dict[str, float], ...]
    validation: tuple[dict[str, float], ...]
    job: dict[str, Any]
    notes: tuple[str, ...]

    def curve(self, curve: Curve) -> list[Point]:
        """Return its finite points, in the order of the steps."""
        rows = self.validation if curve.validates else self.steps
        points = [(row["step"], value) for row in rows if (value := curve.of(row)) is not None]
        return [point for point in points if math.isfinite(point[1])]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What is drawn over the steps: `of` a row of the training log, or of the validation log."""

    name: str
    label: str
    of: Callable[[dict[str, float]], float | None]
    validates: bool = False
    percent: bool = False


def _metric(row: dict[str, float]) -> float | None:
    return next((value for name, value in row.items() if name != "step"), None)


def _waited(row: dict[str, float]) -> float | None:
    wait, compute = row.get("wait"), row.get("compute")
    return None if wait is None or compute is None or wait + compute <= 0 else 100 * wait / (wait + compute)


CURVES = (
    Curve(name="loss", label="loss", of=lambda row: row.get("loss")),
    Curve(name="lr", label="learning rate", of=lambda row: row.get("lr")),
    Curve(name="validation", label="validation (%)", of=_metric, validates=True, percent=True),
    Curve(name="clips_s", label="training (clips/s)", of=lambda row: row.get("clips_s")),
    Curve(name="wait", label="data wait (%)", of=_waited, percent=True),
)


def find(folder: Path) -> list[Path]:
    """Return the folder if it holds a training run, else the runs in it; [] if there are none."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [path for path in (folder, *inside) if _holds_run(path)][: 1 if _holds_run(folder) else None]


def _holds_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (TRAIN, JOB))


def read(folders: Sequence[Path]) -> list[TrainingRun]:
    """Read runs, each named by its folder: by the last part of its path, or by all of it where two share that."""
    names = [folder.absolute().name for folder in folders]
    return [
        _read(folder, printable(name if names.count(name) == 1 else str(folder)))
        for folder, name in zip(folders, names, strict=True)
    ]


def _read(folder: Path, name: str) -> TrainingRun:
    steps, lost = _rows(folder / TRAIN)
    validation, lost_too = _rows(folder / VALIDATION)
    notes = [
        f"{count} lines of {file} cannot be read" for file, count in ((TRAIN, lost), (VALIDATION, lost_too)) if count
    ]
    wild = sum(not math.isfinite(row.get("loss", 0.0)) for row in steps)
    notes += [f"{wild} steps with a loss that is not finite are left out"] if wild else []
    notes += [] if steps else ["no step yet"]
    try:
        job = json.loads((folder / JOB).read_text())
        job = job if isinstance(job, dict) else {}
    except (OSError, ValueError):
        job = {}
        notes.append(f"no {JOB} that can be read")
    notes = [f"{name}: {note}" for note in notes]
    return TrainingRun(name=name, steps=steps, validation=validation, job=job, notes=tuple(notes))


def _rows(path: Path) -> tuple[tuple[dict[str, float], ...], int]:
    """Return the rows of a log by step, the newest of each, and the number of lines that are none.

    The last line may be one that is being written: it does not count.
    """
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    rows, lost = {}, 0
    for line in lines[:-1]:
        row = _row(line)
        lost += row is None
        if row is not None:
            rows[row["step"]] = row
    return tuple(rows[step] for step in sorted(rows)), lost


def _row(line: bytes) -> dict[str, float] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    return {name: value for name, value in row.items() if isinstance(value, (int, float))}


def thin(points: Sequence[Point]) -> list[Point]:
    """Return the medians of `MARKS` contiguous parts of a longer curve: their middle step, and their median value."""
    if len(points) <= MARKS:
        return list(points)
    parts = [points[i * len(points) // MARKS : (i + 1) * len(points) // MARKS] for i in range(MARKS)]
    return [(statistics.median(step for step, _ in part), statistics.median(v for _, v in part)) for part in parts]


def caption(runs: Sequence[TrainingRun]) -> str:
    """Return what a reader of the curves must know."""
    longest = max(len(run.steps) for run in runs)
    medians = f" Curves of more than {MARKS} steps are medians of {MARKS} equal parts." if longest > MARKS else ""
    return f"Speed and data wait are medians over the steps.{medians}"


COLUMNS = (
    Column(name="run", header="run", numeric=False),
    Column(name="model", header="model", numeric=False),
    Column(name="steps", header="steps", decimals=0),
    Column(name="epochs", header="epochs"),
    Column(name="loss", header="last loss"),
    Column(name="validation", header="best validation", unit="%", decimals=1, better="higher"),
    Column(name="clips_s", header="training", unit="clips/s", better="higher"),
    Column(name="wait", header="data wait", unit="%", better="lower"),
)


def table(runs: Sequence[TrainingRun]) -> Table:
    """Return a row per run; what could not be read stands in the footnotes."""
    notes = tuple(dict.fromkeys(note for run in runs for note in run.notes))
    rows = tuple(Row(cells=_cells(run, notes)) for run in runs)
    return Table(title="Training runs", columns=COLUMNS, rows=rows, caption=caption(runs), notes=notes)


def _cells(run: TrainingRun, notes: Sequence[str]) -> tuple[Cell, ...]:
    curves = {curve.name: [value for _, value in run.curve(curve)] for curve in CURVES}
    values = {
        "steps": len(run.steps),
        "epochs": run.steps[-1].get("epoch") if run.steps else None,
        "loss": curves["loss"][-1] if curves["loss"] else None,
        "validation": max(curves["validation"], default=None),
        **{name: statistics.median(curves[name]) if curves[name] else None for name in ("clips_s", "wait")},
    }
    model = on_one_line(label(str(run.job["model"]))) if "model" in run.job else "–"
    marks = tuple(notes.index(note) + 1 for note in run.notes)
    numbers = [_number(column, values[column.name]) for column in COLUMNS[2:]]
    return (Cell(text=on_one_line(run.name), notes=marks), Cell(text=model), *numbers)


def _number(column: Column, value: float | None) -> Cell:
    return Cell() if value is None else Cell(text=column.text(value), value=value)
