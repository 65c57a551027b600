"""`reelbench models`: the zoo's models with parameters and FLOPs counted here, and their published accuracies."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor, nn

from .. import address, models
from ..errors import unknown
from .metrics import flops
from .progress import bar


def render(format: str) -> str:
    """Return the catalog as text: a `table`, or a `json` array of one object per model. Raises UserError otherwise.

    Progress is shown on stderr. `gflops_view` is per view (multiply-add = 1), `top1` and `top5` in percent.
    """
    if format not in ("table", "json"):
        raise unknown("format", format, ("table", "json"))
    with bar(Console(stderr=True)) as progress:
        rows = [_row(name) for name in progress.track(models.names(), description="counting")]
    return json.dumps(rows, indent=1) if format == "json" else _table(rows)


def gflops(model: nn.Module, clip: Tensor) -> float:
    """Return the GFLOPs (multiply-add = 1) of one view of a model on the meta device.

    `model`, in eval mode, and `clip`, one view `1 3 T H W`, must be on the meta device: all clips of a batch count.
    Convolutions and matrix products are counted by torch, norms at fvcore's rate: 5 operations per element for layer
    norm, 2 for batch norm. The figure equals that of `metrics.flops`, without running the model.
    """
    aten = torch.ops.aten
    # The second is what a batch norm in eval mode is, to torch's dispatcher: it has no public name.
    norms = {aten.native_layer_norm: _charge(5), aten._native_batch_norm_legit_no_training: _charge(2)}
    return flops.count_shapes(model, clip, norms) / 1e9


def _charge(operations: int) -> Any:
    """Return an operator's FLOP formula for torch's counter, in which a multiply-add counts 2."""

    def count(shape: tuple[int, ...], *_: Any, out_shape: Any = None, **__: Any) -> int:
        return 2 * operations * torch.Size(shape).numel()

    return count


def _row(name: str) -> dict[str, Any]:
    variant = models.find(name)
    clip = models.choose_clip(name, None)
    with torch.device("meta"):
        model = variant.build(num_classes=variant.num_classes, **variant.kwargs).eval()
        view = torch.empty(1, 3, clip.frames, clip.size, clip.size)
    return {
        "model": name,
        "family": address.family(name),
        "params": sum(p.numel() for p in model.parameters()),
        "gflops_view": gflops(model, view),
        "clip": dataclasses.asdict(clip),
        "views": str(variant.views),
        "recipes": sorted(variant.recipes),
        "published": [dataclasses.asdict(row) for row in variant.published],
    }


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
