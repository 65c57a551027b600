"""One page that stands alone: summary, plot with axes to choose, sortable table, latencies, how to repeat each case.

Nothing is fetched: style and script are inlined, and the page forbids itself every other source. Tables are plain
HTML, readable without the script; `page.js` makes them sort and filter and draws the plots from the data beside it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Any

from ..result import Metric, Result
from . import _details
from ._points import COLUMNS, Plot, colours, plot
from ._ranking import reversals
from ._reproduce import command
from ._stats import pareto
from ._table import Cell, Column, Row, Table, limits, machine, measured, metric_columns, published

SUFFIX = ".html"
SAMPLES = 200  # of a longer distribution so many order statistics are kept: its shape
FEW = 21  # the same where there are many cases: the deciles and what lies between
PAGE = 500  # so many rows and commands stand in the page itself; the script shows the others when they are asked for
SHOWN = ("batch_sweep", "view_budget", "limit")  # the details that the script draws


def render(results: Sequence[Result], *, title: str) -> str:
    """Return the page; every text that came from a result is escaped."""
    script, style = _asset("page.js"), _asset("page.css")
    shown, printed = measured(results), published(results)
    environment = _environment(results)
    details = _details.accounts(results, most=PAGE)  # the script draws the curves
    pairs = list(zip(shown.rows, results, strict=True))
    return Template(_asset("page.html")).substitute(
        title=_text(title),
        script_hash=_hash(script),
        style_hash=_hash(style),
        style=style,
        script=script,
        subtitle=_text(_subtitle(results)),
        cards="\n".join(_cards(results)),
        caption=_text(shown.caption),
        table=_table(dataclasses.replace(shown, rows=shown.rows[:PAGE]), sortable=True),
        notes=_notes(shown),
        failures=_section("failures", "Failures", _failures(results)),
        limits=_section("limits", "What limits each case", _sentences(limits(results)[:PAGE])),
        ranking=_section("ranking", "The ranking depends on how the models are run", _sentences(reversals(results))),
        published=_section("published", printed.title, _captioned(printed) if printed.rows else ""),
        commands="\n".join(_command(i, row, result) for i, (row, result) in enumerate(pairs[:PAGE])),
        environment=_section(
            "environment", "Environment", _table(environment, sortable=False) if environment.rows else ""
        ),
        details="".join(_section(name, t.title, _captioned(t)) for name, t in details.items()),
        data=_script_json(_data(shown, results)),
    )


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return what the content security policy lets run."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(value: object) -> str:
    return html.escape(str(value))


def _script_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _section(anchor: str, heading: str, body: str) -> str:
    return f'<section id="{anchor}"><h2>{_text(heading)}</h2>{body}</section>' if body else ""


def _subtitle(results: Sequence[Result]) -> str:
    machines = dict.fromkeys(machine(r.environment) for r in results)
    days = sorted({r.started[:10] for r in results})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return " · ".join(part for part in (*machines, span, f"{sum(r.seconds for r in results) / 60:.1f} minutes") if part)


def _cards(results: Sequence[Result]) -> list[str]:
    statuses = Counter(r.status for r in results)
    parts = [f"{statuses[status]} {status}" for status in sorted(statuses, key=lambda s: s != "ok")]
    cards = [_card("cases", str(len(results)), ", ".join(parts))]
    shown = plot(results)
    if shown is not None:
        cards.append(_best(shown.y, [r for r in results if r.case.data == shown.data]))
    cards += [_best(COLUMNS[name], results) for name in ("latency_ms", "throughput_clips_s", "energy_j_clip")]
    if shown is not None:
        cards.append(_front_card(shown))
    return [card for card in cards if card]


def _card(label: str, figure: str, detail: str) -> str:
    return f"<li><span>{_text(label)}</span><strong>{_text(figure)}</strong><span>{_text(detail)}</span></li>"


def _best(column: Column, results: Sequence[Result]) -> str:
    found = [r for r in results if column.name in r.metrics]
    if not found:
        return ""
    choose = max if column.better == "higher" else min
    best = choose(found, key=lambda r: r.metrics[column.name].value)
    extreme = "highest" if column.better == "higher" else "lowest"
    value = f"{column.text(best.metrics[column.name].value)} {column.unit}"
    return _card(f"{extreme} {column.header}", value, best.case.model)


def _front_card(shown: Plot) -> str:
    front = pareto([(p.x, p.y) for p in shown.points], lower_x=shown.x.better == "lower")
    return _card(
        "on the Pareto front", f"{len(front)} of {len(shown.points)}", f"{shown.y.header} over {shown.x.header}"
    )


def _table(table: Table, *, sortable: bool) -> str:
    head = "".join(_head(c, sortable) for c in table.columns)
    body = "\n".join(_row(i, row, table.columns) for i, row in enumerate(table.rows))
    kind = ' class="sortable"' if sortable else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _head(column: Column, sortable: bool) -> str:
    unit = f" <small>{_text(column.unit)}</small>" if column.unit else ""
    label = f"{_text(column.header)}{unit}"
    inner = f'<button type="button">{label}</button>' if sortable else label
    kind = ' class="number"' if column.numeric else ""
    kind += ' data-first="descending"' if column.better == "higher" else ""
    return f'<th scope="col"{kind}>{inner}{_marks(column.notes)}</th>'


def _row(index: int, row: Row, columns: Sequence[Column]) -> str:
    cells = "".join(_cell(index, cell, column) for cell, column in zip(row.cells, columns, strict=True))
    return f'<tr data-index="{index}" class="{_text(row.status)}">{cells}</tr>'


def _cell(index: int, cell: Cell, column: Column) -> str:
    if column.name == "case_id":
        return f'<td><a href="#case-{index}"><code>{_text(cell.text)}</code></a></td>'
    interval = f" <small>{_text(cell.interval)}</small>" if cell.interval else ""
    value = f' data-value="{cell.value!r}"' if cell.value is not None else ""
    kind = ' class="number"' if column.numeric else ""
    return f"<td{kind}{value}>{_text(cell.text)}{interval}{_marks(cell.notes)}</td>"


def _marks(notes: tuple[int, ...]) -> str:
    links = ",".join(f'<a href="#note-{i}">{i}</a>' for i in notes)
    return f"<sup>{links}</sup>" if links else ""


def _notes(table: Table) -> str:
    items = "".join(f'<li id="note-{i}">{_text(note)}</li>' for i, note in enumerate(table.notes, 1))
    return f'<ol class="notes">{items}</ol>' if items else ""


def _sentences(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _failures(results: Sequence[Result]) -> str:
    return "".join(
        f'<p><b class="status">{_text(r.status)}</b> <a href="#case-{i}">{_text(r.case.model)}</a> '
        f"{_text(' '.join(r.error.split()))}</p>"
        for i, r in enumerate(results)
        if r.status != "ok"
    )


def _captioned(table: Table) -> str:
    """Return a table under its caption, the first page of its rows."""
    left = table.left + len(table.rows) - PAGE
    caption = f"{table.caption} {left} more rows are in the Markdown report." if left > 0 else table.caption
    shown = _table(dataclasses.replace(table, rows=table.rows[:PAGE]), sortable=True)
    return f'<p class="caption">{_text(caption)}</p>{shown}'


def _command(index: int, row: Row, result: Result) -> str:
    status = "" if row.status == "ok" else f' <b class="status">{_text(row.status)}</b>'
    return (
        f'<details id="case-{index}"><summary>{_text(result.case.model)} <code>{row.case_id}</code>{status}</summary>'
        f"<pre>{_text(command(result.case, row.case_id))}</pre></details>"
    )


def _environment(results: Sequence[Result]) -> Table:
    """Return one column a machine; a value that changed between its cases is shown with all it was."""
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
    """Yield `packages torch`, `gpus 0 name` and so on with their values."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(inner, f"{name} {key}".strip())
    elif value not in ("", None):
        yield name, str(value)


def _several(values: dict[str, None]) -> str:
    first = list(values)[:4]
    return ", ".join(first) + (", …" if len(values) > len(first) else "")


def _data(table: Table, results: Sequence[Result]) -> dict[str, Any]:
    """Return what the script draws: axes, colours, and per case the numbers in the columns' units.

    Of more than a page of cases, also the cells of every row and the commands that are not in the page.
    """
    columns = metric_columns(results)
    shown = plot(results)
    many = len(results) > PAGE
    return {
        "axes": [{"name": c.name, "header": c.header, "unit": c.unit, "better": c.better} for c in columns],
        "colours": colours([r.case.model.partition("/")[0] for r in results]),
        "start": {"x": shown.x.name, "y": shown.y.name, "data": shown.data} if shown else {},
        "columns": [{"name": c.name, "numeric": c.numeric} for c in table.columns],
        "rows": [[row.status, *map(_plain, row.cells)] for row in table.rows] if many else [],
        "commands": [command(r.case, row.case_id) for r, row in zip(results[PAGE:], table.rows[PAGE:], strict=True)],
        "cases": [
            _case(table, row, result, columns, FEW if many else SAMPLES)
            for row, result in zip(table.rows, results, strict=True)
        ],
    }


def _plain(cell: Cell) -> list[Any]:
    """Return a cell as the script reads it: text, interval, value, notes, what is empty at the end left away."""
    parts = [cell.text, cell.interval, cell.value, list(cell.notes)]
    while parts and not parts[-1] and parts[-1] != 0:
        parts.pop()
    return parts


def _case(table: Table, row: Row, result: Result, columns: Sequence[Column], samples: int) -> dict[str, Any]:
    measured_here = [c for c in columns if c.name in result.metrics]
    latency = result.metrics.get("latency_ms")
    found: dict[str, Any] = {
        "id": row.case_id,
        "model": result.case.model,
        "family": result.case.model.partition("/")[0],
        "data": result.case.data,
        "values": {c.name: _numbers(c, result.metrics[c.name]) for c in measured_here},
        "samples": _thin(latency.samples, samples) if latency else [],
    }
    found.update({name: value for name, value in result.details.items() if name in SHOWN})
    return found


def _numbers(column: Column, metric: Metric) -> list[float | None]:
    return [None if v is None else _short(v * column.scale) for v in (metric.value, metric.low, metric.high)]


def _thin(samples: Sequence[float], count: int) -> list[float]:
    ordered = sorted(samples)
    if len(ordered) > count:
        last = len(ordered) - 1
        ordered = [ordered[round(i * last / (count - 1))] for i in range(count)]
    return [_short(sample) for sample in ordered]


def _short(value: float) -> float:
    """Round to six digits that count: more than a pixel can show."""
    return float(f"{value:.6g}")
