"""The data for the HTML page's charts: axes, colors, and per case its numbers, in the columns' units, with labels.

The page's script computes only what depends on the reader's choices: cases, axes, window size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..address import family
from ..intervals import quantile
from ..result import Metric, Result
from ._curves import with_energy
from ._points import Plot, colors, plot
from ._published import PUBLISHED, accuracies, source
from ._stats import kernel_width
from ._table import Column, metric_columns, number

SAMPLES = 200  # a longer distribution is reduced to this many order statistics
FEW = 21  # the same on pages with many cases: deciles and midpoints
COSTS = {"gflops_video": "GFLOPs", "ms_video": "milliseconds", "j_video": "joules"}  # of all views of a video


def data(results: Sequence[Result], *, page: int) -> dict[str, Any]:
    """Return the chart data as JSON-compatible values; with more than `page` cases, fewer samples per case."""
    columns, printed = metric_columns(results), accuracies(results)
    axes = [*columns, *([PUBLISHED] if any(printed) else [])]
    shown = plot(results)
    samples = SAMPLES if len(results) <= page else FEW
    machines = list(dict.fromkeys(result.machine for result in results))
    cases = [{**_case(result, columns, samples), "machine": machines.index(result.machine)} for result in results]
    for case, row in zip(cases, printed, strict=True):
        if row is not None:
            case["values"][PUBLISHED.name] = [row.top1, None, None]
            case["published"] = source(row)
    measured = {cost for case in cases for mark in case.get("budgets", ()) for cost in mark["x"]}
    return {
        "page": page,
        "published": any(printed),
        "axes": [
            {"name": c.name, "header": c.header, "unit": c.unit, "label": c.label, "better": c.better} for c in axes
        ],
        "machines": machines,
        "colors": colors([_family(r) for r in results]),
        "start": {"x": shown.x.name, "y": shown.y.name, "data": _tested_on(shown, results)} if shown else {},
        "costs": {name: unit for name, unit in COSTS.items() if name in measured},
        "cases": cases,
    }


def _tested_on(shown: Plot, results: Sequence[Result]) -> str:
    """Return the cases' own data set that the plot starts with, which is not that of published accuracies."""
    plotted = {point.case_id for point in shown.points}
    return next(result.case.data for result in results if result.case_id in plotted)


def _family(result: Result) -> str:
    return family(result.case.model)


def _case(result: Result, columns: Sequence[Column], samples: int) -> dict[str, Any]:
    latency = result.metrics.get("latency_ms")
    marks = {"batches": list(_batches(result)), "budgets": list(_budgets(result))}
    return {
        "id": result.case_id,
        "model": result.case.label,
        "family": _family(result),
        "data": result.case.data,
        "values": {c.name: _numbers(c, result.metrics[c.name]) for c in columns if c.name in result.metrics},
        **({"samples": []} if latency is None else _distribution(latency, samples)),
        **{name: found for name, found in marks.items() if found},
        **{name: result.details[name] for name in ("limit",) if name in result.details},
    }


def _numbers(column: Column, metric: Metric) -> list[float | None]:
    return [None if v is None else _short(v * column.scale) for v in (metric.value, metric.low, metric.high)]


def _distribution(latency: Metric, count: int) -> dict[str, Any]:
    """Return the thinned samples, the kernel width of their density, and a label with median and percentiles."""
    ordered = sorted(latency.samples)
    kept = _thin(ordered, count)
    if not kept or kept[0] <= 0:  # the density is of logarithms
        return {"samples": kept}
    p90, p99 = (number(quantile(ordered, share)) for share in (0.9, 0.99))
    label = f"median {number(latency.value)} ms, 90 % under {p90}, 99 % under {p99} ms"
    return {"samples": kept, "kernel": _short(kernel_width(kept)), "label": label}


def _thin(ordered: Sequence[float], count: int) -> list[float]:
    if len(ordered) > count:
        last = len(ordered) - 1
        ordered = [ordered[round(i * last / (count - 1))] for i in range(count)]
    return [_short(sample) for sample in ordered]


def _batches(result: Result) -> Iterator[dict[str, Any]]:
    """Yield a mark per batch size: clips/s, with the interval converted from that of the time."""
    for row in result.details.get("batch_sweep", ()):
        low, high = (row["batch"] * 1e3 / row[end] if row[end] else None for end in ("high", "low"))
        label = f"batch {row['batch']}: {number(row['clips_s'])}"
        yield {"x": row["batch"], "y": row["clips_s"], "low": low, "high": high, "label": label}


def _budgets(result: Result) -> Iterator[dict[str, Any]]:
    """Yield a mark per view protocol: its accuracy, and its x position for each known cost."""
    for row in result.details.get("view_budget", ()):
        costs = with_energy(result, row)
        places = {name: costs[name] for name in COSTS if (costs.get(name) or 0) > 0}
        label = f"{row['views']}: {number(row['accuracy'])}"
        yield {"x": places, "y": row["accuracy"], "low": row["low"], "high": row["high"], "label": label}


def _short(value: float) -> float:
    """Round to six significant digits: more than a pixel can show."""
    return float(f"{value:.6g}")
