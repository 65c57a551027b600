"""Attention rollout: propagate relevance from the tokens that the classifier reads back to the input patches.

S. Abnar and W. Zuidema, "Quantifying attention flow in transformers", ACL 2020.

Relevance sums to 1 a clip. It starts on the class token, or evenly on all tokens where the classifier reads their mean.
Each layer, from the last to the first, moves a token's relevance to the tokens that it attended to, by the attention
weights. Relevance is `B L` in models with a class token (laid out as the input of each attention) and `N D H W` in the
others.

The rules of the architectures differ in the layout of tokens:

- divided attention (TimeSformer, ViViT) alternates between time and frames, whose class tokens are one and the same;
- keys are pooled in MViT and DualFormer: the relevance of a key is divided evenly among the tokens of its pooling cell.
  For MViT this is an approximation (its filters overlap at small strides and leave gaps at large ones), as it is for
  shortcuts with max pooling;
- windows (Video Swin, TPS, DualFormer) are partitioned, shifted and padded: relevance returns to the original position
  of a token, and padding gets none. TPS's channels from a neighboring frame count for the frame that they are moved to.

MLPs and DualFormer's position encoding are taken to leave relevance in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...models import _vit
from ...models._dualformer import LocalAttention, PyramidAttention
from ...models._windows import Windows
from ...models.mvit import Pool, PooledAttention
from ...models.tps import ShiftAttention
from ...models.video_swin import WindowAttention

Call = tuple[Tensor, Tensor, Tensor | None]  # queries, keys, bias


@dataclass
class Layer:
    """One recorded call of an attention layer: module, arguments other than the tokens, output shape, SDPA calls."""

    module: Any
    arguments: tuple[Any, ...]
    shape: torch.Size = torch.Size()
    calls: list[Call] = field(default_factory=list)

    def weights(self) -> Tensor:
        """Return the attention weights, `B heads L S`, or `B heads D L S` for TPS, whose frames attend separately.

        B, L and S are those of the module's attention: windows, frames or clips; S may be pooled. Padding gets none.
        """
        heads = torch.cat([_softmax(*call) for call in self.calls])
        if isinstance(self.module, ShiftAttention):
            heads = heads.unflatten(1, (-1, self.module.frames))
        return _without_padding(self, heads) if RULES[type(self.module)] is _in_windows else heads


def record(model: nn.Module, stage: nn.Module, clip: Tensor) -> list[Layer]:
    """Run the model on clips, `N 3 T H W`, and record the attention layers within `stage`, in the order of their calls.

    Only layers of the types in `RULES` are recorded: none in a convolutional network.
    """
    layers: list[Layer] = []
    with _Calls() as calls, torch.no_grad():

        def begin(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            layers.append(Layer(module, inputs[1:]))
            calls.kept = layers[-1].calls

        def end(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            layers[-1].shape = output.shape
            calls.kept = None

        attentions = [module for module in stage.modules() if type(module) in RULES]
        handles = [module.register_forward_pre_hook(begin) for module in attentions]
        handles += [module.register_forward_hook(end) for module in attentions]
        try:
            model(clip)
        finally:
            for handle in handles:
                handle.remove()
    return layers


def propagate(layer: Layer, relevance: Tensor, weights: Tensor) -> Tensor:
    """Move relevance from one layer's output to its input, the tokens attended to, without the shortcut.

    `weights` are `Layer.weights` of one head, or their mean over heads.
    """
    return RULES[type(layer.module)](layer, relevance, weights)


def roll_out(layers: list[Layer], relevance: Tensor) -> Tensor:
    """Propagate relevance from the last layer's output to the first's input.

    In each layer half of it goes by the mean attention over heads, half by the shortcut.
    """
    for layer in reversed(layers):
        relevance = (propagate(layer, relevance, layer.weights().mean(1)) + _through_shortcut(layer, relevance)) / 2
    return relevance


def output_relevance(model: nn.Module, layers: list[Layer], clips: int) -> tuple[list[Layer], Tensor]:
    """Return the layers whose tokens are patches, and the relevance at the output of the last of them.

    `layers`, at least one, are as `record` returns them, `clips` is the batch size. Only ViViT's temporal encoder is
    left out: it is rolled out here.
    """
    if len(layers[-1].shape) == 5:
        shape = layers[-1].shape[:-1]
        return layers, torch.full(shape, 1 / math.prod(shape[1:]), device=layers[-1].calls[0][0].device)
    above = len(getattr(model, "temporal_blocks", ()))
    if not above:
        return layers, _class_token(layers[-1], clips)
    # Factorized ViViT: the temporal encoder reads the mean of each frame's patches, and the first frame's class token.
    layers, temporal = layers[:-above], layers[-above:]
    slots = roll_out(temporal, _class_token(temporal[-1], clips))  # N (1 + T)
    patches = layers[-1].shape[1] - 1
    relevance = (slots[:, 1:, None] / patches).expand(-1, -1, patches)
    first = F.pad(slots[:, :1], (0, slots.shape[1] - 2))  # N T
    return layers, torch.cat((first[..., None], relevance), dim=2).flatten(0, 1)


def _class_token(layer: Layer, clips: int) -> Tensor:
    relevance = torch.zeros(layer.shape[:2], device=layer.calls[0][0].device)
    relevance[:, 0] = clips / len(relevance)  # split among the frames where each has a class token
    return relevance


def _softmax(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (scores if bias is None else scores + bias).softmax(-1)


def _apply(relevance: Tensor, weights: Tensor) -> Tensor:
    """Apply attention weights `... L S` to relevance `... L` -> `... S`."""
    return (relevance.unsqueeze(-2) @ weights).squeeze(-2)


def _in_rows(layer: Layer, relevance: Tensor, weights: Tensor) -> Tensor:
    shift = layer.module.shift
    if shift is None or not shift.patch:
        return _apply(relevance, weights)
    (frames,) = layer.arguments
    moved = _apply(shift(relevance[..., None], frames)[..., 0], weights)
    return shift.back(moved[..., None], frames)[..., 0]


def _along_time(layer: Layer, relevance: Tensor, weights: Tensor) -> Tensor:
    (frames,) = layer.arguments
    patches = _apply(rearrange(relevance[:, 1:], "n (p t) -> (n p) t", t=frames), weights)
    return torch.cat((relevance[:, :1], patches.view(len(relevance), -1)), dim=1)


def _within_frames(layer: Layer, relevance: Tensor, weights: Tensor) -> Tensor:
    (frames,) = layer.arguments
    cls = (relevance[:, :1, None] / frames).expand(-1, frames, -1)
    patches = rearrange(relevance[:, 1:], "n (p t) -> n t p", t=frames)
    rows = _apply(torch.cat((cls, patches), dim=2).flatten(0, 1), weights).unflatten(0, (-1, frames))
    return torch.cat((rows[..., 0].sum(1, keepdim=True), rearrange(rows[..., 1:], "n t p -> n (p t)")), dim=1)


def _pooled(layer: Layer, relevance: Tensor, weights: Tensor) -> Tensor:
    keys, pool = _apply(relevance, weights), layer.module.pool_k
    return keys if pool is None else _unpool(layer, keys, pool)


def _through_shortcut(layer: Layer, relevance: Tensor) -> Tensor:
    """Return the relevance at the shortcut's input: the same, but upsampled where MViT pools the queries."""
    pool = getattr(layer.module, "pool_q", None)
    return relevance if pool is None else _unpool(layer, relevance, pool)


def _unpool(layer: Layer, relevance: Tensor, pool: Pool) -> Tensor:
    (grid,) = layer.arguments
    cells = [math.ceil(length / stride) for length, stride in zip(grid, pool.stride, strict=True)]
    return torch.cat((relevance[:, :1], spread(relevance[:, 1:].unflatten(1, cells), grid).flatten(1)), dim=1)


def _in_windows(layer: Layer, relevance: Tensor, weights: Tensor) -> Tensor:
    windows = _windows_of(layer)
    moved = _apply(windows.partition(relevance[..., None]).view(weights.shape[:-1]), weights)
    return windows.reverse(moved.view(-1, windows.tokens, 1), len(relevance))[..., 0]


def _without_padding(layer: Layer, heads: Tensor) -> Tensor:
    real = _windows_of(layer).partition(torch.ones(*layer.shape[:-1], 1, device=heads.device))  # 0 is padding
    heads = heads * real.view(heads.shape[0], 1, *heads.shape[2:-2], 1, heads.shape[-1])
    return heads / heads.sum(-1, keepdim=True).clamp(min=1e-20)


def _windows_of(layer: Layer) -> Windows:
    _, *grid, _ = layer.shape
    return layer.module.windows(tuple(grid), layer.calls[0][0].device)


def _over_pyramid(layer: Layer, relevance: Tensor, weights: Tensor) -> Tensor:
    keys, module = _apply(relevance.flatten(1), weights), layer.module
    if module.sr is None:
        return keys.view_as(relevance)
    fine = _divide(relevance.shape[1:], module.sr.kernel_size)
    relevance_out = spread(keys[:, : math.prod(fine)].unflatten(1, fine), relevance.shape[1:])
    if module.lr is not None:
        coarse = _divide(_divide(relevance.shape[1:], module.lr[0].kernel_size), module.lr[3].kernel_size)
        relevance_out = relevance_out + spread(keys[:, math.prod(fine) :].unflatten(1, coarse), relevance.shape[1:])
    return relevance_out


def spread(relevance: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Divide the relevance of each pooling cell evenly among its tokens: `N d h w` -> `N D H W`."""
    for axis, length in enumerate(grid, start=1):
        cell = torch.arange(length, device=relevance.device) * relevance.shape[axis] // length
        sizes = cell.bincount()[cell].view(-1, *[1] * (relevance.ndim - 1 - axis))
        relevance = relevance.index_select(axis, cell) / sizes
    return relevance


def _divide(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a // b for a, b in zip(one, other, strict=True))


RULES: dict[type, Callable[[Layer, Tensor, Tensor], Tensor]] = {
    _vit.Attention: _in_rows,
    _vit.TimeAttention: _along_time,
    _vit.SpaceAttention: _within_frames,
    PooledAttention: _pooled,
    WindowAttention: _in_windows,
    ShiftAttention: _in_windows,
    LocalAttention: _in_windows,
    PyramidAttention: _over_pyramid,
}


class _Calls(TorchFunctionMode):
    """Records the arguments of `scaled_dot_product_attention` in `kept`, while it is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Call] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.kept is not None:
            query, key, *_ = args
            self.kept.append((query, key, kwargs.get("attn_mask")))
        return func(*args, **kwargs)
