"""What a transformer's attention passed on: from the tokens that its answer reads, back to where they had it from.

A share of the answer, 1 a clip, lies on the tokens that the classifier reads: on the class token, or on all alike where
it reads their mean. Each layer is undone in turn: a token's share goes to the tokens it attended to, by their weights.
Shares are `B L` behind a class token (laid out as each attention's input is) and `N D H W` where there is none.

What the families differ in is how their attention lays tokens out:

- divided attention (TimeSformer, ViViT) goes by turns along time and within frames, whose class tokens are one;
- MViT's keys are pooled, and DualFormer's: the share of a key is split evenly among the tokens of its cell. For MViT
  that is an approximation (its filters overlap at a small stride and leave gaps at a large one), as is the same split
  where a shortcut keeps the strongest of its tokens;
- windows (Video Swin, TPS, DualFormer) are cut, rolled and padded: shares are put back where the tokens stood, and
  padding gets none. Channels that TPS borrows from a neighboring frame count for the frame that reads them.

Whatever else a block does (perceptrons, DualFormer's convolution of positions) is taken to leave tokens in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
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
    """One attention as it ran: its module, what it got besides tokens, the shape it returned, and its fused calls."""

    module: Any
    arguments: tuple[Any, ...]
    shape: torch.Size = torch.Size()
    calls: list[Call] = field(default_factory=list)

    def weights(self) -> Tensor:
        """Return the weights of each head, `B heads L S`; TPS, whose frames attend apart: `B heads D L S`."""
        heads = torch.cat([_softmax(*call) for call in self.calls])
        if isinstance(self.module, ShiftAttention):
            heads = heads.unflatten(1, (-1, self.module.frames))
        return _without_padding(self, heads) if BACK[type(self.module)] is _in_windows else heads


def record(model: nn.Module, stage: nn.Module, clip: Tensor) -> list[Layer]:
    """Run the model on a clip, `N 3 T H W`; return the attentions inside one of its stages, in their order."""
    layers: list[Layer] = []
    with _Calls() as calls, torch.no_grad():

        def begin(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            layers.append(Layer(module, inputs[1:]))
            calls.kept = layers[-1].calls

        def end(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            layers[-1].shape = output.shape
            calls.kept = None

        attentions = [module for module in stage.modules() if type(module) in BACK]
        handles = [module.register_forward_pre_hook(begin) for module in attentions]
        handles += [module.register_forward_hook(end) for module in attentions]
        try:
            model(clip)
        finally:
            for handle in handles:
                handle.remove()
    return layers


def back(layer: Layer, shares: Tensor, weights: Tensor) -> Tensor:
    """Hand each token's share to those that it attended to by `weights`, one head's or the mean of all."""
    return BACK[type(layer.module)](layer, shares, weights)


def roll_out(layers: list[Layer], shares: Tensor) -> Tensor:
    """Take shares back through layers whose shortcut keeps half of what passes: attention rollout, its mean heads.

    S. Abnar and W. Zuidema, "Quantifying attention flow in transformers", ACL 2020.
    """
    for layer in reversed(layers):
        shares = (back(layer, shares, layer.weights().mean(1)) + _kept(layer, shares)) / 2
    return shares


def answer(model: nn.Module, layers: list[Layer], clips: int) -> tuple[list[Layer], Tensor]:
    """Return the layers over patches, and the shares of the answer on the tokens that the last of them returned."""
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
    shares = (slots[:, 1:, None] / patches).expand(-1, -1, patches)
    first = F.pad(slots[:, :1], (0, slots.shape[1] - 2))  # N T
    return layers, torch.cat((first[..., None], shares), dim=2).flatten(0, 1)


def _class_token(layer: Layer, clips: int) -> Tensor:
    shares = torch.zeros(layer.shape[:2], device=layer.calls[0][0].device)
    shares[:, 0] = clips / len(shares)  # of a frame, where each has its own
    return shares


def _softmax(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (scores if bias is None else scores + bias).softmax(-1)


def _hand(shares: Tensor, weights: Tensor) -> Tensor:
    """`... L` by `... L S` -> `... S`."""
    return (shares.unsqueeze(-2) @ weights).squeeze(-2)


def _in_rows(layer: Layer, shares: Tensor, weights: Tensor) -> Tensor:
    shift = layer.module.shift
    if shift is None or not shift.patch:
        return _hand(shares, weights)
    (frames,) = layer.arguments
    handed = _hand(shift(shares[..., None], frames)[..., 0], weights)
    return shift.back(handed[..., None], frames)[..., 0]


def _along_time(layer: Layer, shares: Tensor, weights: Tensor) -> Tensor:
    (frames,) = layer.arguments
    patches = _hand(shares[:, 1:].unflatten(1, (-1, frames)).flatten(0, 1), weights)
    return torch.cat((shares[:, :1], patches.view(len(shares), -1)), dim=1)


def _within_frames(layer: Layer, shares: Tensor, weights: Tensor) -> Tensor:
    (frames,) = layer.arguments
    cls = (shares[:, :1, None] / frames).expand(-1, frames, -1)
    patches = shares[:, 1:].unflatten(1, (-1, frames)).transpose(1, 2)  # N T P
    rows = _hand(torch.cat((cls, patches), dim=2).flatten(0, 1), weights).unflatten(0, (-1, frames))
    return torch.cat((rows[..., 0].sum(1, keepdim=True), rows[..., 1:].transpose(1, 2).flatten(1)), dim=1)


def _pooled(layer: Layer, shares: Tensor, weights: Tensor) -> Tensor:
    return _unpool(layer, _hand(shares, weights), layer.module.pool_k)


def _kept(layer: Layer, shares: Tensor) -> Tensor:
    """What the shortcut keeps lies where it was, but for MViT where queries were pooled: there it was larger."""
    pool = getattr(layer.module, "pool_q", None)
    return shares if pool is None else _unpool(layer, shares, pool)


def _unpool(layer: Layer, shares: Tensor, pool: Pool) -> Tensor:
    (grid,) = layer.arguments
    cells = [math.ceil(length / stride) for length, stride in zip(grid, pool.stride, strict=True)]
    return torch.cat((shares[:, :1], spread(shares[:, 1:].unflatten(1, cells), grid).flatten(1)), dim=1)


def _in_windows(layer: Layer, shares: Tensor, weights: Tensor) -> Tensor:
    windows = _windows_of(layer)
    handed = _hand(windows.cut(shares[..., None]).view(weights.shape[:-1]), weights)
    return windows.join(handed.view(-1, windows.tokens, 1), len(shares))[..., 0]


def _without_padding(layer: Layer, heads: Tensor) -> Tensor:
    real = _windows_of(layer).cut(torch.ones(*layer.shape[:-1], 1, device=heads.device))  # 0 is padding
    heads = heads * real.view(heads.shape[0], 1, *heads.shape[2:-2], 1, heads.shape[-1])
    return heads / heads.sum(-1, keepdim=True).clamp(min=1e-20)


def _windows_of(layer: Layer) -> Windows:
    _, *grid, _ = layer.shape
    return layer.module.windows(tuple(grid), layer.calls[0][0].device)


def _over_pyramid(layer: Layer, shares: Tensor, weights: Tensor) -> Tensor:
    keys, module = _hand(shares.flatten(1), weights), layer.module
    if module.sr is None:
        return keys.view_as(shares)
    fine = _divide(shares.shape[1:], module.sr.kernel_size)
    found = spread(keys[:, : math.prod(fine)].unflatten(1, fine), shares.shape[1:])
    if module.lr is not None:
        coarse = _divide(_divide(shares.shape[1:], module.lr[0].kernel_size), module.lr[3].kernel_size)
        found = found + spread(keys[:, math.prod(fine) :].unflatten(1, coarse), shares.shape[1:])
    return found


def spread(shares: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Split what the cells of a pooled grid hold evenly among the tokens of each: `N d h w` -> `N D H W`."""
    for axis, length in enumerate(grid, start=1):
        cell = torch.arange(length, device=shares.device) * shares.shape[axis] // length
        sizes = cell.bincount()[cell].view(-1, *[1] * (shares.ndim - 1 - axis))
        shares = shares.index_select(axis, cell) / sizes
    return shares


def _divide(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a // b for a, b in zip(one, other, strict=True))


BACK: dict[type, Callable[[Layer, Tensor, Tensor], Tensor]] = {
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
    """Keeps what every fused attention is called with, while there is a list to keep it in."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Call] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.kept is not None:
            query, key, *_ = args
            self.kept.append((query, key, kwargs.get("attn_mask")))
        return func(*args, **kwargs)
