"""One page that stands alone: summary, plot with axes to choose, sortable table, latencies, how to repeat each case.

Nothing is fetched: style and script are inlined, and the page forbids itself every other source. Tables are plain
HTML, readable without the script; the script makes them sort and filter and draws the plots from the data beside it.
Templates, style and script are the files of `page/`; what stands in them is escaped unless it is ours.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..result import Result
from . import _cards, _charts, _details, _environment
from ._ranking import reversals
from ._reproduce import command
from ._table import limits, machine, measured, published

PAGE = 500  # so many rows and commands are laid out; the script shows the others when they are asked for
FILES = Path(__file__).parent / "page"
# Each of these modules imports from those before it only, so that one after the other they are one module.
SCRIPTS = (
    "elements", "data", "axes", "front", "names", "tables",
    "cases", "tooltip", "scatter", "curves", "latencies", "page",
)  # fmt: skip


def render(results: Sequence[Result], *, title: str) -> str:
    """Return the page; every text that came from a result is escaped."""
    shown = measured(results)
    lines = (command(result.case, row.case_id) for row, result in zip(shown.rows, results, strict=True))
    return _templates().get_template("page.html").render(
        page=PAGE,
        title=title,
        script="".join(script(name) for name in SCRIPTS),
        style=_read("page.css"),
        subtitle=_subtitle(results),
        cards=_cards.cards(results),
        measured=shown,
        published=published(results),
        failures=[(i, r) for i, r in enumerate(results) if r.status != "ok"],
        limits=limits(results)[:PAGE],
        ranking=reversals(results),
        commands=list(zip(shown.rows, results, lines, strict=True)),
        environment=_environment.table(results),
        accounts=_details.accounts(results, most=PAGE),  # the script draws the curves
        places={row.case_id: i for i, row in reversed(list(enumerate(shown.rows)))},
        data=_charts.data(results, page=PAGE),
    )  # fmt: skip


def script(name: str) -> str:
    """Return a module of the page's script to stand with the others in one: nothing is imported, nothing exported."""
    text = re.sub(r"^import [^;]*;\n", "", _read(f"{name}.js"), flags=re.MULTILINE)
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)


@cache
def _templates() -> Environment:
    # A name that a template misspells is an error, not an empty place.
    found = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.globals["zip"] = zip
    found.filters["sha256"] = _sha256
    # Order and characters stay; what could end the script element is escaped by `tojson` itself.
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    return found


def _read(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    """Return the hash by which the content security policy knows what may run."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _subtitle(results: Sequence[Result]) -> str:
    machines = dict.fromkeys(machine(r.environment) for r in results)
    days = sorted({r.started[:10] for r in results})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return " · ".join(part for part in (*machines, span, f"{sum(r.seconds for r in results) / 60:.1f} minutes") if part)
