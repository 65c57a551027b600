"""Saliency maps: Grad-CAM for every family, attention maps for the transformers.

Maps are `N T H W`, of the size of the clip they explain, each clip's scaled to 0..1 by its own least and largest value
(a constant map is 0).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import models
from ...errors import UserError
from ...models.timesformer import attended
from . import rollout

CORE = 0.6
CORE_TITLE = f"{CORE:.0%} of it"


def grad_cam(
    model: nn.Module, clip: Tensor, *, layer: str | None = None, label: int | None = None
) -> tuple[Tensor, int]:
    """Return the Grad-CAM maps of `label` for every clip of `N 3 T H W`, and that class's index.

    By default it is the class predicted for the first clip. R. Selvaraju and others, "Grad-CAM", ICCV 2017; as in
    MMAction2, the gradient is that of the softmax probability, and channel weights are averages over each frame
    separately. `layer` is as in `find_layer`. The model, made by `models.build`, should be in eval mode; the gradients
    of its parameters are cleared. Raises UserError if the layer does not exist, or none is given and there is no
    default.
    """
    name = str(model.variant_name)
    chosen = layer or models.find(name).gradcam_layer
    if chosen is None:
        raise UserError(f"{name} has no default layer for Grad-CAM: name one with --layer")
    model.zero_grad(set_to_none=True)
    with _output(find_layer(model, chosen)) as seen, torch.enable_grad():
        probability = model(clip.detach().requires_grad_(True)).softmax(-1)
        top = int(probability[0].argmax()) if label is None else label
        (gradient,) = torch.autograd.grad(probability[:, top].sum(), seen[0])
    planes = _has_planes(find_layer(model, chosen), gradient)
    try:
        features, slopes = (volume(x, model, len(clip), planes=planes) for x in (seen[0].detach(), gradient))
    except (RuntimeError, AttributeError):
        shape = "×".join(map(str, gradient.shape))
        raise UserError(
            f"--layer {chosen} returns {shape}, which is no grid of patches: name a layer before it, or in your own "
            "network set output_grid = (frames, rows, columns) for its tokens"
        ) from None
    weights = slopes.mean((-2, -1), keepdim=True)  # N C T 1 1
    return _fit((weights * features).sum(1, keepdim=True).relu(), clip), top


def find_layer(model: nn.Module, path: str) -> nn.Module:
    """Return the module at a dotted path, where `-1` is the last child. Raises UserError if there is none."""
    found = model
    for part in path.split("."):
        children = dict(found.named_children())
        last = re.fullmatch(r"-([1-9]\d*)", part)
        name = list(children)[int(part)] if last and int(last[1]) <= len(children) else part
        if name not in children:
            known = ", ".join(list(children)[:12]) or "nothing"
            raise UserError(f"--layer {path}: there is no '{part}', here are {known}")
        found = children[name]
    return found


def attention_stage(model: nn.Module) -> nn.Module:
    """Return the module whose attention is mapped: the variant's `attention_stage`, or the whole model without one."""
    path = models.find(str(model.variant_name)).attention_stage
    return find_layer(model, path) if path else model


def _has_planes(layer: nn.Module, output: Tensor) -> bool:
    """Return whether channels come before space in a layer's output, as they do after a convolution."""
    weighted = [module for module in layer.modules() if module._parameters]
    if not weighted:
        return output.shape[-1] == output.shape[-2]  # of a bare activation; frames are square
    return isinstance(weighted[-1], nn.Conv2d | nn.Conv3d | nn.BatchNorm2d | nn.BatchNorm3d | nn.GroupNorm)


def volume(x: Tensor, model: nn.Module, batch: int, *, planes: bool = False) -> Tensor:
    """Return features as `N C T h w`: from `N T h w C`, `(N T) h w C`, or tokens, those of the patches last.

    With `planes` channels come before space: `N C T h w`, `(N T) C h w`. Tokens are those of a frame,
    `(N T) (… + P) C`, or of the clip, `N (… + P T) C`: time-minor in `_vit`, time-major where the model has an
    `output_grid`, which is T, h, w. Frames must be square otherwise. `batch` is N.
    """
    if x.ndim == 5:
        return x if planes else x.movedim(-1, 1)
    if x.ndim == 4:
        frames = x if planes else x.movedim(-1, 1)
        return frames.unflatten(0, (batch, -1)).transpose(1, 2)
    if hasattr(model, "output_grid"):
        grid = model.output_grid
        count = math.prod(grid)  # type: ignore[arg-type]
        return x[:, -count:].unflatten(1, grid).movedim(-1, 1)  # type: ignore[arg-type]
    if len(x) > batch:
        side = math.isqrt(x.shape[1])
        return x[:, -side * side :].unflatten(1, (side, side)).unflatten(0, (batch, -1)).movedim(-1, 1)
    slots = getattr(model, "slots", None) or model.frames
    tokens = x[:, 1:].unflatten(1, (-1, slots)).transpose(1, 2)  # type: ignore[arg-type]
    side = math.isqrt(tokens.shape[2])
    return tokens.unflatten(2, (side, side)).movedim(-1, 1)


def attention(model: nn.Module, clip: Tensor, *, heads: bool = False) -> dict[str, Tensor]:
    """Return attention maps by title: `rollout`, `last layer` (the mean over heads), and its core (`CORE_TITLE`).

    With `heads`, a map of each head of the last layer instead: `head 0`, `head 1`, …. The core is 1 on the patches that
    hold the top 60 % of each frame's attention, 0 elsewhere. `clip` is `N 3 T H W`, the model in eval mode. In models
    with a class token, maps show what it attends to. In the others they show the attention that each position receives,
    in the last stage only, and `rollout` is over its blocks. In ViViT's factorized encoder they show the attention that
    patches receive within their frames. Raises UserError if the model is no transformer.
    """
    layers = rollout.record(model, attention_stage(model), clip)
    if not layers:
        raise UserError(f"{model.variant_name} is no transformer: use --method gradcam")
    layers, output = rollout.output_relevance(model, layers, len(clip))
    last = layers[-1]
    weights = last.weights()
    if heads:
        found = {f"head {n}": rollout.propagate(last, output, weights[:, n]) for n in range(weights.shape[1])}
        return {name: _fit(_volume_of(relevance, model, clip), clip) for name, relevance in found.items()}
    flow = _volume_of(rollout.roll_out(layers, output), model, clip)
    final = _volume_of(rollout.propagate(last, output, weights.mean(1)), model, clip)
    core = attended(final.flatten(-2), CORE).float().view_as(final)
    whole = F.interpolate(core, size=clip.shape[2:])[:, 0]  # nearest: stays binary
    return {"rollout": _fit(flow, clip), "last layer": _fit(final, clip), CORE_TITLE: whole}


def _volume_of(relevance: Tensor, model: nn.Module, clip: Tensor) -> Tensor:
    """Return per-patch relevance as `N 1 t h w`."""
    return relevance[:, None] if relevance.ndim == 4 else volume(relevance[..., None], model, len(clip))


def _fit(x: Tensor, clip: Tensor) -> Tensor:
    """Resize `N 1 t h w` to the clip's `N T H W`, and scale each map to 0..1."""
    x = F.interpolate(x.float(), size=clip.shape[2:], mode="trilinear", align_corners=False)[:, 0]
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=1e-20)


@contextmanager
def _output(layer: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)  # as libraries return states with their shapes

    handle = layer.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
