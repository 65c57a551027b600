"""A self-contained HTML page: summary, plot with selectable axes, sortable table, latencies, reproduction commands.

Style and script are inlined, and a content security policy forbids every other source. Tables are plain HTML, readable
without the script, which adds sorting, filtering and the plots. Templates, style and script are the files of `page/`;
everything inserted into them is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..result import Result
from . import _ablation, _cards, _charts, _details, _environment, _machines, _published, _verdict
from ._compact import ANSWERS
from ._measured import conventions, measured
from ._ranking import reversals
from ._reproduce import command
from ._summary import limits
from ._table import Table

PAGE = 500  # rows and commands rendered at first; the script adds more on demand
FILES = Path(__file__).parent / "page"
# Each module imports only from earlier ones, so that their concatenation is a single module.
SCRIPTS = (
    "elements", "data", "axes", "front", "names", "tables",
    "cases", "tooltip", "scatter", "curves", "latencies", "theme", "page",
)  # fmt: skip
TRAINING = ("elements", "data", "axes", "curves", "theme", "training")


def render(results: Sequence[Result], *, title: str, status: str = "") -> str:
    """Return the page; all text from results is escaped. `status` says how far a suite is that still runs."""
    shown = _answers_first(measured(results))
    lines = (command(result.case, row.case_id) for row, result in zip(shown.rows, results, strict=True))
    return fill(
        "page.html",
        SCRIPTS,
        page=PAGE,
        title=title,
        subtitle=_subtitle(results),
        status=status,
        verdict=_verdict.sentences(results),
        cards=_cards.cards(results),
        measured=shown,
        pivot=_machines.speeds(results),
        ablations=_ablation.tables(results),
        gaps=_published.gaps(results),
        published=_published.table(results),
        failures=[(i, r) for i, r in enumerate(results) if r.status != "ok"],
        limits=limits(results)[:PAGE],
        ranking=reversals(results),
        commands=list(zip(shown.rows, results, lines, strict=True)),
        environment=_environment.table(results),
        accounts=_details.accounts(results, most=PAGE),  # the script draws the curves
        places={(row.case_id, row.machine): i for i, row in reversed(list(enumerate(shown.rows)))},
        data=_charts.data(results, page=PAGE),
    )  # fmt: skip


def _answers_first(table: Table) -> Table:
    """Return the measured table, its numbers in the order in which they answer, and what the columns say in a note."""
    numbers = [i for i, column in enumerate(table.columns) if column.numeric]
    place = {name: at for at, name in enumerate(ANSWERS)}
    sorted_numbers = iter(sorted(numbers, key=lambda i: place.get(table.columns[i].name, len(place))))
    order = [next(sorted_numbers) if column.numeric else i for i, column in enumerate(table.columns)]
    columns = tuple(table.columns[i] for i in order)
    rows = tuple(replace(row, cells=tuple(row.cells[i] for i in order)) for row in table.rows)
    notes = tuple(filter(None, (*table.notes, conventions(columns))))
    return replace(table, columns=columns, rows=rows, notes=notes)


def fill(template: str, scripts: Sequence[str], **values: object) -> str:
    """Return a page of a template of `page/`, with the style and those modules of its script in it."""
    code = "".join(script(name) for name in scripts)
    return _templates().get_template(template).render(script=code, style=_read("page.css"), **values)


def script(name: str) -> str:
    """Return a module of the page's script without imports and exports, ready to be concatenated with the others."""
    text = re.sub(r"^import [^;]*;\n", "", _read(f"{name}.js"), flags=re.MULTILINE)
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)


@cache
def _templates() -> Environment:
    # StrictUndefined: a misspelt name in a template is an error, not an empty string.
    found = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.globals["zip"] = zip
    found.filters["sha256"] = _sha256
    # Keep order and non-ASCII characters; `tojson` itself escapes whatever could end the script element.
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    return found


def _read(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    """Return the base64 SHA-256 hash that allows an inline script or style in the content security policy."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _subtitle(results: Sequence[Result]) -> str:
    machines = dict.fromkeys(r.machine for r in results)
    days = sorted({r.started[:10] for r in results})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return " · ".join(part for part in (*machines, span, f"{sum(r.seconds for r in results) / 60:.1f} minutes") if part)
