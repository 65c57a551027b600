"""`reelbench models`: what is in the zoo, with the figures that papers print of it."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from .. import models
from .errors import unknown


def render(format: str) -> str:
    """Return the catalogue as a `table` or as `json`."""
    rows = [_row(name) for name in models.names()]
    if format == "json":
        return json.dumps(rows, indent=1)
    if format != "table":
        raise unknown("format", format, ("table", "json"))
    return _table(rows)


def _row(name: str) -> dict[str, Any]:
    variant = models.find(name)
    with torch.device("meta"):
        model = variant.build(num_classes=variant.num_classes, **variant.options)
    return {
        "model": name,
        "params": sum(p.numel() for p in model.parameters()),
        "clip": dataclasses.asdict(variant.clip),
        "views": str(variant.views),
        "recipes": sorted(variant.recipes),
        "published": [dataclasses.asdict(row) for row in variant.published],
    }


def _table(rows: list[dict[str, Any]]) -> str:
    table = Table("model", "params", "clip", "views", "GFLOPs/view", "published top-1", "recipes", box=None)
    for row in rows:
        clip, published = row["clip"], row["published"]
        size = f"{clip['frames']}x{clip['stride']} {clip['sampling']}, {clip['size']}²"
        accuracy = ", ".join(f"{p['dataset']} {p['top1']}" for p in published if p["top1"] is not None)
        gflops = next((f"{p['gflops']:g}" for p in published if p["gflops"] is not None), "")
        params = f"{row['params'] / 1e6:.2f} M"
        table.add_row(row["model"], params, size, row["views"], gflops, accuracy, ", ".join(row["recipes"]))
    text = io.StringIO()
    Console(file=text, width=160).print(table)
    return text.getvalue()
