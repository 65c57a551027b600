"""Reports of training runs: tables, the page, its picture, and CSV of every step."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import UserError, unknown
from . import html, markdown, terminal
from ._points import colors
from ._training import CURVES, Curve, TrainingRun, caption, table, thin
from .figure import FORMATS as PICTURES
from .figure import INK, STYLE, save

FORMATS = ("terminal", "markdown", "csv", "html", "figure")
TITLE = "ReelBench: training"


def write(runs: Sequence[TrainingRun], kind: str, to: Path | None) -> list[Path]:
    """Write a report of training runs, or print it if `to` is None; return the files written.

    Beside a page its curves are written as PNG. Raises UserError for a format that there is none of, a picture without
    a file, or without any step.
    """
    if kind not in FORMATS:
        raise unknown("format of training runs", kind, FORMATS)
    if not any(run.steps or run.validation for run in runs):
        raise UserError(f"nothing to report: {', '.join(run.name for run in runs)} took no step yet")
    if to is None:
        if kind == "figure":
            raise UserError("--format figure is a picture: name a file with --to")
        print(_text(runs, kind), end="")
        return []
    to.parent.mkdir(parents=True, exist_ok=True)
    if kind == "figure":
        to.write_bytes(picture(runs, _suffix(to)))
        return [to]
    to.write_text(_text(runs, kind, plain=True), encoding="utf-8")
    if kind != "html":
        return [to]
    beside = to.with_suffix(".png")
    beside.write_bytes(picture(runs, "png"))
    return [to, beside]


def _suffix(to: Path) -> str:
    suffix = to.suffix.lstrip(".").lower()
    if suffix not in PICTURES:
        raise UserError(f"{to}: a figure ends in {', '.join('.' + name for name in PICTURES)}")
    return suffix


def _text(runs: Sequence[TrainingRun], kind: str, *, plain: bool = False) -> str:
    if kind == "csv":
        return _csv(runs)
    if kind == "html":
        return html.fill("training.html", html.TRAINING, title=TITLE, table=table(runs), data=data(runs))
    if kind == "markdown":
        return f"# {TITLE}\n\n{markdown.table(table(runs))}\n"
    return terminal.show([table(runs)], title=TITLE, plain=plain)


def _csv(runs: Sequence[TrainingRun]) -> str:
    """Return a row for every step and validation, with the columns of both logs."""
    rows = [{"run": run.name, **row} for run in runs for row in (*run.steps, *run.validation)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def data(runs: Sequence[TrainingRun]) -> dict[str, Any]:
    """Return the page's chart data: per run and curve its marks, in the shape of `_charts.data`."""
    shown = [curve for curve in CURVES if any(run.curve(curve) for run in runs)]
    return {
        "curves": [{"name": c.name, "label": c.label, "percent": c.percent} for c in shown],
        "caption": caption(runs),
        "colors": colors([run.name for run in runs]),
        "cases": [
            {"id": "", "model": run.name, "family": run.name, **{c.name: _marks(run, c) for c in shown}} for run in runs
        ],
        "axes": [],
    }


def _marks(run: TrainingRun, curve: Curve) -> list[dict[str, Any]]:
    marks = [
        {"x": step, "y": float(f"{value:.6g}"), "low": None, "high": None, "label": ""}
        for step, value in thin(run.curve(curve))
    ]
    for mark in marks[-1:]:
        mark["label"] = f"{curve.label} {mark['y']:g} at step {mark['x']:g}"
    return marks


def picture(runs: Sequence[TrainingRun], format: str) -> bytes:
    """Return the curves as a picture, a panel each, in a format of `figure.FORMATS`."""
    shown = [curve for curve in CURVES if any(run.curve(curve) for run in runs)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.6 * -(-len(shown) // 2) + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = [figure.add_subplot(-(-len(shown) // 2), 2, place + 1) for place in range(len(shown))]
        for axes, curve in zip(panels, shown, strict=True):
            _draw(axes, runs, curve)
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8, labelcolor=INK)
        return save(figure, format)


def _draw(axes: Axes, runs: Sequence[TrainingRun], curve: Curve) -> None:
    """Draw a panel: a line per run, a mark for each validation."""
    paint = colors([run.name for run in runs])
    for run in runs:
        points = thin(run.curve(curve))
        mark = "o" if curve.validates or len(points) == 1 else ""
        xs, ys = [step for step, _ in points], [value for _, value in points]
        axes.plot(xs, ys, color=paint[run.name], linewidth=1.2, marker=mark, markersize=3, label=run.name)
    axes.set_title(curve.label, loc="left", fontsize=9, color=INK)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(length=3, labelsize=8)
    axes.grid(True, color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
