"""Window partition for attention in (shifted) windows, as one permutation of the tokens.

The official codes pad, roll and reshape, then add a mask to the scores of every window. Here roll and partition are
one gather, which also groups the windows that have the same mask, so that each distinct mask (at most eight) is stored
once and not for each window. Along one axis, 3 windows of 4 tokens, shift 2:

    tokens    0 1 2 3  4 5 6 7  8 9 a b
    windows   2 3 4 5| 6 7 8 9| a b:0 1      only the last window is masked: a b and 0 1 do not attend to each other
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Size3 = tuple[int, int, int]
MASKED = -100.0
PLANS = 8  # grids whose partitions an attention caches
KEPT = torch.empty(0)


@dataclass(frozen=True, eq=False)
class Windows:
    """A window partition of a grid of D x H x W tokens.

    `order` is the source index, in the flattened padded grid, of each token of each window, `inverse` its inverse.

    `counts` are the numbers of windows in each group with one mask, `masks` those masks, `groups 1 tokens tokens`: -100
    between tokens that are adjacent only by the cyclic shift, 0 elsewhere; `None` without a shift. `padded` is the grid
    rounded up to whole windows of `tokens` tokens, `pairs` the row of the relative-position table for each pair of
    tokens.
    """

    grid: Size3
    padded: Size3
    tokens: int
    order: Tensor
    inverse: Tensor
    counts: tuple[int, ...]
    masks: Tensor | None
    pairs: Tensor | None

    def partition(self, x: Tensor) -> Tensor:
        """Partition `B D H W C` into `(windows B) tokens C`, zero-padded at the end of each axis."""
        batch, channels = x.shape[0], x.shape[-1]
        if self.padded != self.grid:
            ends = [(0, p - g) for p, g in zip(reversed(self.padded), reversed(self.grid), strict=True)]
            x = F.pad(x, (0, 0, *itertools.chain(*ends)))
        if torch.compiler.is_compiling():  # any batch by the same indices; the compiler moves the tokens once
            x = permute(x.reshape(batch, -1, channels), self.order, self.inverse, 1)
            return x.unflatten(1, (-1, self.tokens)).transpose(0, 1).reshape(-1, self.tokens, channels)
        into, back = _indices(self, batch)
        return permute(x.reshape(-1, channels), into, back, 0).view(-1, self.tokens, channels)

    def reverse(self, x: Tensor, batch: int) -> Tensor:
        """Undo `partition`: `(windows B) tokens C` -> `B D H W C`, without the padding."""
        channels, (depth, height, width) = x.shape[-1], self.grid
        if torch.compiler.is_compiling():
            x = x.view(-1, batch, self.tokens, channels).transpose(0, 1).reshape(batch, -1, channels)
            x = permute(x, self.inverse, self.order, 1)
        else:
            into, back = _indices(self, batch)
            x = permute(x.reshape(-1, channels), back, into, 0)
        return x.view(batch, *self.padded, channels)[:, :depth, :height, :width]


@lru_cache(maxsize=16)  # two batch sizes of a model's eight partitions: an index has an entry for each token
def _indices(windows: Windows, batch: int) -> tuple[Tensor, Tensor]:
    # Rows are (window, clip, token) on one side and (clip, token) on the other.
    with torch.inference_mode(False):
        order, inverse, tokens = windows.order, windows.inverse, windows.tokens
        clips = torch.arange(batch, device=order.device)[:, None]
        into = order.view(-1, 1, tokens) + clips * len(order)
        back = (inverse // tokens) * (batch * tokens) + inverse % tokens
        return into.flatten(), (back + clips * tokens).flatten()


class WindowedAttention(nn.Module):
    """Base of window attentions: caches the partition of each grid, where torch.compile can use it too."""

    def __init__(self) -> None:
        super().__init__()
        self.plans: dict[tuple[Size3, torch.device], Windows] = {}
        self.number = _numbered(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over another one's state, as copies do, under a number of its own."""
        super().__setstate__(state)
        self.number = _numbered(self)

    def plan(self, grid: Size3, device: torch.device) -> Windows:
        """Return the window partition of a grid of D x H x W tokens; subclasses implement it."""
        raise NotImplementedError

    def windows(self, grid: Size3, device: torch.device) -> Windows:
        """Return the window partition of a grid of D x H x W tokens, from the cache or by `plan`."""
        _keep(self.number, grid, device)
        return self.plans[grid, device]


_numbers = itertools.count()
_attentions: WeakValueDictionary[int, WindowedAttention] = WeakValueDictionary()


def _numbered(attention: WindowedAttention) -> int:
    number = next(_numbers)
    _attentions[number] = attention
    return number


def _keep(number: int, grid: Size3, device: torch.device) -> Tensor:
    attention = _attentions[number]
    if (grid, device) not in attention.plans:
        if len(attention.plans) == PLANS:
            attention.plans.pop(next(iter(attention.plans)))
        attention.plans[grid, device] = attention.plan(grid, device)
    return KEPT


# Private to torch: torch.compile runs this function instead of tracing it, so that the compiled forward pass finds its
# partition in the cache. This is what torch.compiler.assume_constant_result sets, but that takes seconds to import.
# Up to torch 2.12 it takes constants only, hence the number in place of the module.
_keep._dynamo_marked_constant = True  # type: ignore[attr-defined]


def attend_groups(windows: Windows, batch: int, attend: Callable[..., Tensor], *inputs: Tensor, bias: Tensor) -> Tensor:
    """Run `attend(*inputs, bias)` on each group of windows, its mask added to the bias, and concatenate the results.

    `inputs` are `(windows B) ...` in the order of `Windows.partition`, `batch` is B, `bias` `1 heads tokens tokens`.
    """
    if windows.masks is None:
        return attend(*inputs, bias)
    groups = zip(*(x.split([count * batch for count in windows.counts]) for x in inputs), strict=True)
    biases = (bias + windows.masks.to(bias.dtype)).split(1)
    return torch.cat([attend(*group, own) for group, own in zip(groups, biases, strict=True)])


def clamp(grid: Size3, window: Size3, shift: Size3) -> tuple[Size3, Size3]:
    """Return window and shift for a grid: an axis no longer than its window is one window, not shifted."""
    fits = [g <= w for g, w in zip(grid, window, strict=True)]
    clamped = (g if fit else w for g, w, fit in zip(grid, window, fits, strict=True))
    shifted = (0 if fit else s for s, fit in zip(shift, fits, strict=True))
    return tuple(clamped), tuple(shifted)  # type: ignore[return-value]


@lru_cache(maxsize=64)
def plan(
    grid: Size3,
    window: Size3,
    shift: Size3,
    device: torch.device,
    *,
    within: Size3 | None = None,
    shift_tokens: Callable[[Tensor], Tensor] | None = None,
    pairs: Tensor | None = None,
) -> Windows:
    """Return the partition of a grid of D x H x W tokens into windows, cyclically shifted by `shift`.

    Masks are those of attention in sub-windows of size `within`, by default the whole window. `shift_tokens` permutes
    the token indices of each window, `windows D tokens` -> the same. `pairs` is stored in the result, which is cached:
    do not change it in place.
    """
    padded: Size3 = tuple(-(-g // w) * w for g, w in zip(grid, window, strict=True))  # type: ignore[assignment]
    with torch.inference_mode(False):
        groups = _groups(padded, window, shift, device)
        if shift_tokens is not None:
            groups = [shift_tokens(rows) for rows in groups]
        order = torch.cat(groups).flatten()
        masks = _masks(within or window, shift, device) if any(shift) else None
        counts = tuple(len(rows) for rows in groups)
        return Windows(grid, padded, math.prod(window), order, order.argsort(), counts, masks, pairs)


def _groups(padded: Size3, window: Size3, shift: Size3, device: torch.device) -> list[Tensor]:
    """Return groups of windows that have the same mask, as token indices in the padded grid, `windows D tokens`."""
    d, h, w = window
    rows = torch.arange(math.prod(padded), device=device).view(padded)
    rows = rows.roll([-s for s in shift], (0, 1, 2))
    rows = rearrange(rows, "(nd d) (nh h) (nw w) -> nd nh nw d h w", d=d, h=h, w=w)
    axes = [(slice(None, -1), slice(-1, None)) if s else (slice(None),) for s in shift]
    return [rows[along].reshape(-1, d, h * w) for along in itertools.product(*axes)]


def _masks(window: Size3, shift: Size3, device: torch.device) -> Tensor:
    """Return the mask of each group, `groups 1 tokens tokens`."""
    axes = [(False, True) if s else (False,) for s in shift]
    return torch.stack([_mask(window, shift, cut, device)[None] for cut in itertools.product(*axes)])


def _mask(window: Size3, shift: Size3, cut: tuple[bool, ...], device: torch.device) -> Tensor:
    """Return the mask of a window that wraps around along the axes in `cut`, `tokens x tokens`."""
    starts = (w - s if c else w for w, s, c in zip(window, shift, cut, strict=True))
    parts = [torch.arange(w, device=device) >= start for w, start in zip(window, starts, strict=True)]
    first, second, third = torch.meshgrid(*parts, indexing="ij")
    region = (first * 4 + second * 2 + third * 1).flatten()
    return (region[:, None] != region[None, :]) * MASKED


@lru_cache(maxsize=64)
def bias_index(window: Size3, tokens: int, device: torch.device) -> Tensor:
    """Return the index into the relative-position table of each pair of a window's first `tokens` tokens, flattened."""
    with torch.inference_mode(False):
        axes = torch.meshgrid(*(torch.arange(n, device=device) for n in window), indexing="ij")
        position = torch.stack([axis.flatten() for axis in axes])[:, :tokens]
        dt, dh, dw = (position[:, :, None] - position[:, None, :]).unbind(0)
        _, height, width = window
        return (
            ((dt + window[0] - 1) * (2 * height - 1) + dh + height - 1) * (2 * width - 1) + dw + width - 1
        ).flatten()


class _Permute(torch.autograd.Function):
    # The gradient of a permutation is the inverse permutation: a gather, where autograd would scatter and add.
    @staticmethod
    def forward(ctx: Any, x: Tensor, into: Tensor, back: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(into, back)
        ctx.dim = dim
        return x.index_select(dim, into)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        into, back = ctx.saved_tensors
        return permute(grads[0], back, into, ctx.dim), None, None, None


def permute(x: Tensor, into: Tensor, back: Tensor, dim: int) -> Tensor:
    """Return `x` with the entries of axis `dim` permuted by `into`, whose inverse permutation is `back`."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _Permute.apply(x, into, back, dim)  # type: ignore[return-value]
    return x.index_select(dim, into)
