"""Resize the learned positions in a checkpoint to a model with another grid of patches, or other number of time steps.

The time embedding is resized as in facebookresearch/TimeSformer: each step takes the nearest one's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._naming import State


def fit(model: nn.Module, state: State) -> State:
    """Return the state dict with `pos_embed` and `time_embed` in the sizes of a TimeSformer or ViViT."""
    own = dict(model.named_parameters())
    fitted = dict(state)
    if "pos_embed" in own and "pos_embed" in state:
        fitted["pos_embed"] = resize_grid(state["pos_embed"], own["pos_embed"].shape[1])
    if "time_embed" in own and "time_embed" in state:
        kept = int(model.attention == "factorized")  # the class token's row
        fitted["time_embed"] = resize_times(state["time_embed"], own["time_embed"].shape[1], kept)
    return fitted


def resize_grid(table: Tensor, rows: int) -> Tensor:
    """Resize a square grid of positions bicubically: `1 (1 + P) D` -> `1 rows D`. The class token's row stays."""
    old, new = (math.isqrt(n - 1) for n in (table.shape[1], rows))
    if table.shape[1] == rows or old**2 != table.shape[1] - 1 or new**2 != rows - 1:
        return table
    grid = table[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", antialias=True)
    return torch.cat((table[:, :1], grid.flatten(2).transpose(1, 2)), dim=1)


def resize_times(table: Tensor, steps: int, kept: int = 0) -> Tensor:
    """Resize positions in time to the nearest, except the first `kept` rows: `1 T D` -> `1 steps D`."""
    if table.shape[1] == steps:
        return table
    times = F.interpolate(table[:, kept:].transpose(1, 2), size=steps - kept, mode="nearest").transpose(1, 2)
    return torch.cat((table[:, :kept], times), dim=1)
