"""The zoo's models with parameters and FLOPs counted here, and their published accuracies."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from .. import address, discover, models
from ..pipelines.progress import counting
from .metrics import flops


def rows(*, added: bool = False) -> list[dict[str, Any]]:
    """Count every model of the zoo, or those that plug-ins add; return a row for each, as plain values.

    Progress is shown on stderr.
    """
    others = discover.added("models")
    names = [name for name in models.names() if (address.family(name) in others) == added]
    found = []
    with counting("counting", len(names)) as tell:
        for name in names:
            found.append(row(name))
            tell(len(found))
    return found


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


def row(name: str) -> dict[str, Any]:
    """Count one model; return its row."""
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
        "published": [dataclasses.asdict(figures) for figures in variant.published],
    }
