"""The tables of the zoo in README.md and docs/zoo.md, written from the counts that come with the package.

python tests/zoo_table.py        writes them between the marks <!-- zoo --> and <!-- /zoo -->
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reelbench.harness import listing

ROOT = Path(__file__).parents[1]
BETWEEN = re.compile(r"(?<=<!-- zoo -->\n)(.*?)(?=<!-- /zoo -->)", re.DOTALL)
PLACE = re.compile(r"^github\.com/|,? README.*|, .*")  # where in a repository
ADDRESSES = ("checkpoint", "config", "log", "labels")

Row = dict[str, Any]


def summary(rows: Iterable[Row]) -> str:
    """Return a row for each full-size model, without addresses."""
    head = ("address", "params (M)", "GFLOPs/view", "clip", "published top-1 (%)", "source")
    return _table(head, (_summary(row) for row in rows if not row["model"].endswith("/micro")))


def releases(rows: Iterable[Row]) -> str:
    """Return a row for each published figure, with the addresses of what was published with it."""
    head = ("address", "data set", "top-1 (%)", "views", "pre-training", "source", "addresses")
    return _table(head, (_release(row["model"], figures) for row in rows for figures in row["published"]))


FILES: dict[str, Callable[[Iterable[Row]], str]] = {"README.md": summary, "docs/zoo.md": releases}


def _summary(row: Row) -> tuple[str, ...]:
    clip = row["clip"]
    figures = [figures for figures in row["published"] if figures["top1"] is not None]
    return (
        f"`{row['model']}`",
        f"{row['params'] / 1e6:.2f}",
        f"{row['gflops_view']:.4g}",
        f"{clip['frames']}×{clip['stride']}, {clip['size']}²",
        ", ".join(f"{one['top1']} {one['dataset']}" for one in figures),
        ", ".join(dict.fromkeys(PLACE.sub("", one["source"]) for one in figures)),
    )


def _release(model: str, figures: Row) -> tuple[str, ...]:
    top1 = "" if figures["top1"] is None else str(figures["top1"])
    links = ", ".join(f"[{name}]({figures[name]})" for name in ADDRESSES if figures[name])
    source = PLACE.sub("", figures["source"])
    plain = (figures["dataset"], top1, figures["views"] or "", figures["pretrain"] or "", source)
    return (f"`{model}`", *plain, links)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    for name, table in FILES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        written = BETWEEN.sub(lambda _, table=table: table(listing.rows()), text)
        (ROOT / name).write_text(written, encoding="utf-8")
