"""Options of a model: the arguments of its constructor that a user may set, and those that a clip implies."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

import torch
from torch import Tensor

from ..errors import UserError, unknown
from ..spec import Clip
from . import _outline
from ._variant import Variant

# What other options of a run set.
RESERVED = ("num_classes", "drop_path", "checkpoint_activations", "token_labels")


def types(variant: Variant) -> dict[str, Any]:
    """Return the options of a variant's constructor by name, with their annotated types."""
    hints = get_type_hints(variant.build.__init__ if isinstance(variant.build, type) else variant.build)
    names = inspect.signature(variant.build).parameters
    return {name: hints[name] for name in names if name in hints and name not in RESERVED}


def check(name: str, variant: Variant, options: Mapping[str, Any]) -> None:
    """Raise UserError, which lists the known ones, if an option is none of the constructor's."""
    for option in options:
        if option not in inspect.signature(variant.build).parameters:
            raise unknown(f"option of {name}", option, types(variant))


def for_clip(variant: Variant, options: Mapping[str, Any], clip: Clip | None) -> dict[str, Any]:
    """Return the options, with the constructor's `frames` and `size` set for a clip that it would not take otherwise.

    Options that are given stay, and so does everything if no setting takes the clip.
    """
    own = variant.clip
    if clip is None or (own is not None and (clip.frames, clip.size) == (own.frames, own.size)):
        return dict(options)
    if refusal(variant, options, clip) is None:
        return dict(options)
    for names in (("frames",), ("size",), ("frames", "size")):
        asked = {name: scaled(variant, name, clip) for name in names if name in types(variant) and name not in options}
        if asked and None not in asked.values() and refusal(variant, {**asked, **options}, clip) is None:
            return {**asked, **options}
    return dict(options)


def scaled(variant: Variant, name: str, clip: Clip) -> int | None:
    """Return the constructor's `frames` or `size` for a clip, as it is for the variant's own; None if it divides not.

    It may be in tokens: a TPS of 32 frames is built with 16.
    """
    if variant.clip is None:
        return getattr(clip, name)
    own = variant.kwargs.get(name, inspect.signature(variant.build).parameters[name].default)
    value, rest = divmod(getattr(clip, name) * own, getattr(variant.clip, name))
    return None if rest else value


def refusal(variant: Variant, options: Mapping[str, Any], clip: Clip) -> str | None:
    """Run a variant with these options on a clip on the meta device; return why it cannot take it, None if it can."""

    def run() -> Any:
        model = variant.build(**{"num_classes": 2, **variant.kwargs, **options}).eval()
        with torch.inference_mode():
            return model(torch.empty(1, 3, clip.frames, clip.size, clip.size))

    try:
        return _mistaken(_outline.on_meta(run))
    except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError, LookupError, UserError) as error:
        return " ".join(str(error).split())[:160]


def _mistaken(logits: Any) -> str | None:
    """Return what is wrong with the output for one clip and two classes."""
    if isinstance(logits, Tensor) and logits.shape == (1, 2):
        return None
    found = "×".join(map(str, logits.shape)) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    return f"for one clip and num_classes=2 it returns {found}, not logits of 1×2 (N×classes)"
