"""The zoo. `models.build("video_swin/t", num_classes=400)` returns an ordinary `nn.Module`.

A name is an address: `video_swin/t` is the entry `t` of `VARIANTS` in `models/video_swin.py`. Every model takes a float
clip `N 3 T H W`, normalized by the mean and deviation of its `Clip`, and returns logits `N classes`. To add an
architecture, write one file that ends in `VARIANTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import discover
from ..errors import UserError, unknown
from ..spec import Clip, Recipe
from ._variant import Variant

__all__ = ["Variant", "build", "check_clip", "choose_clip", "families", "find", "init_from", "load_checkpoint", "names"]


def families() -> list[str]:
    """Return the architecture families: the public files of this package (`maskfeat` has no variants of its own)."""
    return discover.names("models")


def names() -> list[str]:
    """Return the address of every variant, such as `tsm/r50_8f`."""
    return [f"{family}/{variant}" for family in families() for variant in _variants(family)]


def find(name: str) -> Variant:
    """Return the variant at an address. Raises UserError, with the nearest names, if there is none."""
    family, _, variant = name.partition("/")
    if family not in families() or variant not in _variants(family):
        raise unknown("model", name, names())
    return _variants(family)[variant]


def _variants(family: str) -> dict[str, Variant]:
    return discover.module("models", family, "model family").VARIANTS


def build(
    name: str,
    *,
    num_classes: int | None = None,
    checkpoint: str | Path | Mapping[str, Tensor] | None = None,
    pretrained: str | Path | Mapping[str, Tensor] | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build a model by its address, in training mode; without a checkpoint its weights are random.

    `num_classes` is by default the variant's, not the checkpoint's. `checkpoint` is a video checkpoint, loaded strictly
    as by `load_checkpoint`; `pretrained` is a 2D image checkpoint, inflated by the architecture's official rule, and
    leaves the classifier random. `overrides` are arguments of the architecture's constructor. Raises UserError if the
    address or an argument is unknown, or a checkpoint does not fit.
    """
    from . import _checkpoints

    variant = find(name)
    try:
        model = variant.build(num_classes=num_classes or variant.num_classes, **{**variant.kwargs, **overrides})
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UserError(f"{name}: {str(error).partition(') ')[2] or error}") from None
    model.variant_name = name  # type: ignore[assignment]
    if pretrained is not None:
        _checkpoints.load_pretrained(model, variant, pretrained)
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    return model


def load_checkpoint(model: nn.Module, source: str | Path | Mapping[str, Tensor]) -> None:
    """Load a video checkpoint into a model that `build` made, strictly.

    `source` is a `.pth`, `.pt` or `.safetensors` file, a DeepSpeed folder (ZeRO 3's must be consolidated first), or a
    state dict, with our parameter names or the official release's. Raises UserError, which names them, if keys are
    missing (`num_batches_tracked` may be), unexpected or mis-shaped.
    """
    from . import _checkpoints

    _checkpoints.load(model, find(str(model.variant_name)), source)


def init_from(model: nn.Module, source: str | Path | Mapping[str, Tensor]) -> list[str]:
    """Initialize fine-tuning from a video checkpoint of another data set, into a model that `build` made.

    Returns the keys that were not loaded: those that only the model or only the checkpoint has, or mis-shaped. The
    classifier is never listed; it keeps its own weights if the number of classes differs. `source` is as in
    `load_checkpoint`. Raises UserError if no weight but the classifier's fits.
    """
    from . import _checkpoints

    return _checkpoints.init_from(model, find(str(model.variant_name)), source)


def choose_clip(model: str, recipe: Recipe | None, given: Clip | None = None) -> Clip:
    """Return the input clip to use: `given`, else the recipe's, else the model's published one."""
    return given or (recipe and recipe.clip) or find(model).clip


def check_clip(model: str, clip: Clip) -> None:
    """Run the model on a clip of this shape on the meta device. Raises UserError if the model cannot take it."""
    variant = find(model)
    try:
        with torch.device("meta"), torch.inference_mode():
            variant.build(num_classes=2, **variant.kwargs).eval()(torch.empty(1, 3, clip.frames, clip.size, clip.size))
    except (RuntimeError, ValueError, AssertionError, UserError) as error:
        own = variant.clip
        raise UserError(
            f"{model} cannot take {clip.frames} frames of {clip.size}x{clip.size} (its own: {own.frames} of "
            f"{own.size}x{own.size}): {' '.join(str(error).split())[:160]}"
        ) from None
