"""What `reelbench models` prints, without importing torch: the counts come with the package, in models/catalog.json.

    {"of": "3f0c…", "rows": […]}        "of" is the fingerprint of the code that they were counted with

Of other code, such as a clone's that somebody works on, they are counted once and kept in ~/.cache/reelbench. `make
catalog` writes those that come with the package.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

from .. import cache, discover
from ..errors import unknown

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "models" / "catalog.json"
FORMATS = ("table", "json")


def render(format: str) -> str:
    """Return the catalog as text: a `table`, or a `json` array of one object per model. Raises UserError otherwise.

    `gflops_view` is per view (multiply-add = 1), `top1` and `top5` in percent.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    found = rows()
    return json.dumps(found, indent=1) if format == "json" else _table(found)


def rows() -> list[dict[str, Any]]:
    """Return a row for every model of the zoo; those of plug-ins are counted now, with progress on stderr."""
    own = _own()
    if not discover.added("models"):
        return own
    from . import catalog

    return sorted([*own, *catalog.rows(added=True)], key=lambda row: row["family"])


def fingerprint() -> str:
    """Identify the code that the counts depend on: the models', and what counts them."""
    files = (*sorted((ROOT / "models").glob("*.py")), ROOT / "harness/catalog.py", ROOT / "harness/metrics/flops.py")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def ship() -> None:
    """Count the zoo and write what comes with the package."""
    _write(SHIPPED, fingerprint(), _count())


def _own() -> list[dict[str, Any]]:
    kept, version = cache.folder() / "models.json", fingerprint()
    for file in (SHIPPED, kept):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            read = json.loads(file.read_text(encoding="utf-8"))
            if read["of"] == version:
                return read["rows"]
    found = _count()
    with contextlib.suppress(OSError):  # then they are counted again
        kept.parent.mkdir(parents=True, exist_ok=True)
        _write(kept, version, found)
    return found


def _count() -> list[dict[str, Any]]:
    from . import catalog

    return json.loads(json.dumps(catalog.rows()))  # tuples as they are read back


def _write(file: Path, version: str, rows: list[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(row) for row in rows)
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(f'{{"of": "{version}", "rows": [\n{lines}\n]}}\n', encoding="utf-8")
    part.replace(file)


def _table(rows: list[dict[str, Any]]) -> str:
    from rich.console import Console
    from rich.table import Column, Table

    columns = ("model", "params", "GFLOPs/view", "clip", "views", "published top-1", "source", "recipes")
    table = Table(*(Column(name, overflow="fold") for name in columns), box=None)
    for row in rows:
        clip, published = row["clip"], row["published"]
        size = f"{clip['frames']}x{clip['stride']} {clip['sampling']}, {clip['size']}²"
        accuracy = ", ".join(f"{p['dataset']} {p['top1']}" for p in published if p["top1"] is not None)
        sources = "; ".join(dict.fromkeys(p["source"] for p in published))
        params, cost = f"{row['params'] / 1e6:.2f} M", f"{row['gflops_view']:.4g}"
        table.add_row(row["model"], params, cost, size, row["views"], accuracy, sources, ", ".join(row["recipes"]))
    text = io.StringIO()
    Console(file=text, width=200).print(table)
    return text.getvalue() + "Where checkpoints, configurations, logs and class names are published: --format json\n"


if __name__ == "__main__":
    ship()
