"""What a model looked at, as maps: Grad-CAM for every family, attention for the transformers with a class token.

Maps are `N T H W` in 0..1, of the size of the clip they explain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..models.timesformer import attended
from .errors import UserError

# The last features that still know where they are. Of a model that judges by its class token, the last block changes
# that token alone: the block before it is the last whose patches matter.
LAYERS = {
    "tsm": "backbone",
    "video_swin": "backbone.layers.-1.blocks.-1",
    "tps": "backbone.layers.-1.blocks.-1",
    "dualformer": "backbone.blocks.-1.-1",
    "timesformer": "blocks.-2",
    "vivit": "blocks.-2",
    "mvit": "blocks.-2",
}
CORE = 0.6


def grad_cam(
    model: nn.Module, clip: Tensor, *, layer: str | None = None, label: int | None = None
) -> tuple[Tensor, int]:
    """Return the map of what raised the probability of `label` (by default the predicted class), and that class.

    R. Selvaraju and others, "Grad-CAM", ICCV 2017; the weights of the channels are found for each frame, as MMAction2
    does. `layer` is a dotted path, where `-1` is the last of a list. `clip` is `N 3 T H W`.
    """
    family = str(model.variant_name).partition("/")[0]
    chosen = layer or LAYERS.get(family)
    if chosen is None:
        raise UserError(f"{family} has no default layer for Grad-CAM: name one with --layer")
    model.zero_grad(set_to_none=True)
    with _output(find_layer(model, chosen)) as seen, torch.enable_grad():
        probability = model(clip.detach().requires_grad_(True)).softmax(-1)
        top = int(probability[0].argmax()) if label is None else label
        (gradient,) = torch.autograd.grad(probability[:, top].sum(), seen[0])
    features, slopes = (volume(x, model, len(clip)) for x in (seen[0].detach(), gradient))
    weights = slopes.mean((-2, -1), keepdim=True)  # N C T 1 1
    return _fit((weights * features).sum(1, keepdim=True).relu(), clip), top


def find_layer(model: nn.Module, path: str) -> nn.Module:
    """Return the module at a dotted path; one that does not exist is a `UserError` that lists what does."""
    found = model
    for part in path.split("."):
        children = dict(found.named_children())
        name = list(children)[int(part)] if part.startswith("-") and int(part) >= -len(children) else part
        if name not in children:
            known = ", ".join(list(children)[:12]) or "nothing"
            raise UserError(f"--layer {path}: there is no '{part}', here are {known}")
        found = children[name]
    return found


def volume(x: Tensor, model: nn.Module, batch: int) -> Tensor:
    """Return features as `N C T h w`: from `N T h w C`, `(N T) C h w`, or tokens behind a class token.

    Tokens are those of a frame, `(N T) (1 + P) C`, or of the clip, `N (1 + P T) C`: time-minor in `_vit`, time-major
    in MViT.
    """
    if x.ndim == 5:
        return x.movedim(-1, 1)
    if x.ndim == 4:
        return x.unflatten(0, (batch, -1)).transpose(1, 2)
    patches = x[:, 1:]
    if len(x) > batch:
        tokens = patches.unflatten(0, (batch, -1))  # N T P C
    elif hasattr(model, "output_grid"):
        tokens = patches.unflatten(1, (model.output_grid[0], -1))  # type: ignore[index]
    else:
        slots = getattr(model, "slots", None) or model.frames
        tokens = patches.unflatten(1, (-1, slots)).transpose(1, 2)  # type: ignore[arg-type]
    side = round(tokens.shape[2] ** 0.5)
    return tokens.unflatten(2, (side, side)).movedim(-1, 1)


def attention(model: nn.Module, clip: Tensor) -> dict[str, Tensor]:
    """Return what the class token attended to: `rollout` over the layers, the last layer's mean head, and its core.

    The core are the patches that hold 60 % of it, in each frame.

    S. Abnar and W. Zuidema, "Quantifying attention flow in transformers", ACL 2020: half of every layer is its
    residual. With factorised or divided attention it is that of space, a frame at a time. Windowed and pooled attention
    have no such map: that is a `UserError`.
    """
    with _Attention() as seen, torch.inference_mode():
        model(clip)
    layers = _with_class_token(seen.weights, model)
    flow = torch.eye(layers[0].shape[-1], device=clip.device).expand_as(layers[0])
    for weights in layers:
        mixed = (weights + torch.eye(weights.shape[-1], device=clip.device)) / 2
        flow = mixed @ flow
    last = layers[-1][:, 0]
    core = F.pad(attended(last[:, 1:], CORE).float(), (1, 0))
    rows = {"rollout": flow[:, 0], "last layer": last, f"{CORE:.0%} of it": core}
    # A row of tokens is a feature of one channel: what the class token, row 0, made of each.
    return {name: _fit(volume(row[..., None], model, len(clip)), clip) for name, row in rows.items()}


def _with_class_token(weights: list[Tensor], model: nn.Module) -> list[Tensor]:
    """Return the layers, `B L L` each, of the attention that has the most tokens and one that stands for all."""
    if not hasattr(model, "cls_token") or hasattr(model, "output_grid"):
        name = getattr(model, "variant_name", "this model")
        raise UserError(f"{name} attends in windows, in pools or not at all: use --method gradcam")
    most = max(w.shape[-1] for w in weights)
    return [w for w in weights if w.shape[-1] == most and w.shape[-2] == most]


def _fit(x: Tensor, clip: Tensor) -> Tensor:
    """Stretch `N 1 t h w` to the clip's `N T H W`, and each map to 0..1."""
    x = F.interpolate(x.float(), size=clip.shape[2:], mode="trilinear", align_corners=False)[:, 0]
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=1e-20)


@contextmanager
def _output(layer: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(output)

    handle = layer.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


class _Attention(TorchFunctionMode):
    """Keeps the weights of every attention called, mean over the heads: `B L S` each."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key = args[0], args[1]
            scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
            self.weights.append(scores.softmax(-1).mean(1))
        return func(*args, **kwargs)
