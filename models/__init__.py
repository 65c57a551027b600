"""The zoo. `models.build("video_swin/t", num_classes=400)` returns an ordinary `nn.Module`.

A name is an address: `video_swin/t` is the entry `t` of `VARIANTS` in `models/video_swin.py`. Every model takes a
`clip` float `N×3×T×H×W` and returns logits `N×classes`. To add an architecture, write one file that ends in `VARIANTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..harness import discover
from ..harness.errors import UserError, unknown
from ..harness.spec import Clip, Published, Recipe, Views


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One entry of the zoo.

    `build(num_classes=…, **overrides)` makes the module with the architecture's own initialisation. `clip` is the
    published input, `views` the published test protocol, `idle` names the parameters that no gradient reaches by
    design. `keys` maps an official release's parameter name to ours (`None` drops it); `inflate(model, state)`
    turns a 2D image checkpoint into this model's state dict by the official rule: everything but the classifier,
    whose names start with `head`.
    """

    build: Callable[..., nn.Module]
    clip: Clip
    num_classes: int = 400
    views: Views = Views()
    published: tuple[Published, ...] = ()
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    head: str | tuple[str, ...] = "cls_head."
    keys: Callable[[str], str | None] | None = None
    inflate: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def families() -> list[str]:
    """Return the architecture families: the public files of this package."""
    return discover.names("models")


def names() -> list[str]:
    """Return the address of every variant, such as `tsm/r50_8f`."""
    return [f"{family}/{variant}" for family in families() for variant in _variants(family)]


def find(name: str) -> Variant:
    """Return the variant at an address; an unknown one is a `UserError` with near names."""
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
    """Build a model by its address.

    `checkpoint` is a video checkpoint (ours or the official release's naming) and is loaded strictly; `pretrained`
    is a 2D image checkpoint, inflated by the architecture's official rule. `overrides` go to the architecture's
    own constructor, which knows its arguments: a misspelt one is a `UserError`.
    """
    from . import _checkpoints

    variant = find(name)
    try:
        model = variant.build(num_classes=num_classes or variant.num_classes, **{**variant.options, **overrides})
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

    `source` is a `.pth`, `.pt` or `.safetensors` file, a DeepSpeed folder, or a state dict, in our naming or in the
    official release's. Missing, unexpected and mis-shaped keys are named in a `UserError`.
    """
    from . import _checkpoints

    _checkpoints.load(model, find(str(model.variant_name)), source)


def init_from(model: nn.Module, source: str | Path | Mapping[str, Tensor]) -> list[str]:
    """Start fine-tuning from a video checkpoint of another data set; return the keys that were not loaded.

    The classifier is replaced when the classes differ and is not listed; `source` as in `load_checkpoint`.
    """
    from . import _checkpoints

    return _checkpoints.init_from(model, find(str(model.variant_name)), source)
