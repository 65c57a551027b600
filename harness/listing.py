"""What `reelbench models` prints, without importing torch: the catalog is counted once for each version, then kept.

~/.cache/reelbench/models.json     {"of": "3f0c…", "rows": […]}
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from .. import cache
from ..errors import unknown

ROOT = Path(__file__).parents[1]
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
    """Return a row for every model of the zoo, from the cache or counted now, with progress on stderr."""
    file, version = cache.folder() / "models.json", fingerprint()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_text())
        if kept["of"] == version:
            return kept["rows"]
    from . import catalog

    text = json.dumps({"of": version, "rows": catalog.rows()})
    with contextlib.suppress(OSError):  # then they are counted again
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_text(text)
        part.replace(file)
    return json.loads(text)["rows"]


def fingerprint() -> str:
    """Identify what the counts depend on: the models' code, what counts them, and torch."""
    files = (*sorted((ROOT / "models").glob("*.py")), ROOT / "harness/catalog.py", ROOT / "harness/metrics/flops.py")
    content = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(content + metadata.version("torch").encode()).hexdigest()[:16]


def _table(rows: list[dict[str, Any]]) -> str:
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
    return text.getvalue()
