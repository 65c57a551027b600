"""Windows of tokens: which tokens attend to each other in the windowed architectures, as one permutation.

The official codes pad, roll, cut and reshape, then add a mask to every window's scores. Here the roll and the cut are
one gather, whose order also puts windows of the same mask side by side, so that a mask exists once a kind (at most
eight) and not once a window. Along one axis, 3 windows of 4 tokens, shift 2:

    tokens    0 1 2 3  4 5 6 7  8 9 a b
    windows   2 3 4 5| 6 7 8 9| a b:0 1      only the last window is cut: a b and 0 1 do not see each other
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Size3 = tuple[int, int, int]
MASKED = -100.0


@dataclass(frozen=True)
class Windows:
    """A way to cut a grid of tokens: `order` (windows x tokens) says where each window's tokens come from.

    `kinds` lists (windows, mask) for each run of windows with the same mask: `None`, or `tokens x tokens` with -100
    between tokens that the shift brought together. `padded` is the grid rounded up to whole windows.
    """

    grid: Size3
    padded: Size3
    order: Tensor
    inverse: Tensor
    kinds: tuple[tuple[int, Tensor | None], ...]

    @property
    def tokens(self) -> int:
        """Tokens of one window."""
        return self.order.shape[1]

    def cut(self, x: Tensor) -> Tensor:
        """Cut `B D H W C` into `(windows B) tokens C`, padding with zeros at the end of each axis."""
        batch, channels = x.shape[0], x.shape[-1]
        if self.padded != self.grid:
            ends = [(0, p - g) for p, g in zip(reversed(self.padded), reversed(self.grid), strict=True)]
            x = F.pad(x, (0, 0, *itertools.chain(*ends)))
        into, back = self._indices(batch)
        return permute_rows(x.reshape(-1, channels), into, back).view(-1, self.tokens, channels)

    def join(self, x: Tensor, batch: int) -> Tensor:
        """Put `(windows B) tokens C` back: `B D H W C`, the padding dropped."""
        into, back = self._indices(batch)
        x = permute_rows(x.reshape(-1, x.shape[-1]), back, into).view(batch, *self.padded, -1)
        depth, height, width = self.grid
        return x[:, :depth, :height, :width]

    def _indices(self, batch: int) -> tuple[Tensor, Tensor]:
        # Rows are (window, clip, token) on one side and (clip, token) on the other.
        clips = torch.arange(batch, device=self.order.device)[:, None]
        into = self.order[:, None, :] + clips * self.order.numel()
        back = (self.inverse // self.tokens) * (batch * self.tokens) + self.inverse % self.tokens
        return into.flatten(), (back + clips * self.tokens).flatten()


def attend_kinds(windows: Windows, batch: int, attend: Callable[..., Tensor], *inputs: Tensor, bias: Tensor) -> Tensor:
    """Run `attend(*inputs, bias)` on each run of windows, with its mask added to the bias, and join the results."""
    sizes = [count * batch for count, _ in windows.kinds]
    runs = zip(*(x.split(sizes) for x in inputs), strict=True)
    masks = (mask for _, mask in windows.kinds)
    outputs = [
        attend(*run, bias if mask is None else bias + mask.to(bias.dtype))
        for run, mask in zip(runs, masks, strict=True)
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def clamp(grid: Size3, window: Size3, shift: Size3) -> tuple[Size3, Size3]:
    """Return window and shift for a grid: an axis no longer than its window is one window, not shifted."""
    fits = [g <= w for g, w in zip(grid, window, strict=True)]
    clamped = (g if fit else w for g, w, fit in zip(grid, window, fits, strict=True))
    shifted = (0 if fit else s for s, fit in zip(shift, fits, strict=True))
    return tuple(clamped), tuple(shifted)  # type: ignore[return-value]


@lru_cache(maxsize=128)
def plan(grid: Size3, window: Size3, shift: Size3, device: torch.device) -> Windows:
    """Return how to cut a grid of D x H x W tokens in windows shifted by `shift`."""
    with torch.inference_mode(False):
        runs = [(rows, mask(window, shift, cut, device)) for rows, cut in cut_runs(grid, window, shift, device)]
        return assemble(grid, window, runs)


def assemble(grid: Size3, window: Size3, runs: list[tuple[Tensor, Tensor | None]]) -> Windows:
    """Return the windows made of runs of (rows `windows x tokens`, mask)."""
    order = torch.cat([rows for rows, _ in runs])
    kinds = tuple((len(rows), mask) for rows, mask in runs)
    return Windows(grid, _padded(grid, window), order, order.flatten().argsort(), kinds)


def cut_runs(grid: Size3, window: Size3, shift: Size3, device: torch.device) -> list[tuple[Tensor, tuple[bool, ...]]]:
    """Return runs of windows: their tokens in the padded grid, `windows x tokens`, and the axes that cut them."""
    padded = _padded(grid, window)
    (nd, nh, nw), (d, h, w) = (p // n for p, n in zip(padded, window, strict=True)), window
    rows = torch.arange(padded[0] * padded[1] * padded[2], device=device).view(padded)
    rows = rows.roll([-s for s in shift], (0, 1, 2))
    rows = rows.view(nd, d, nh, h, nw, w).permute(0, 2, 4, 1, 3, 5)
    axes = [[(slice(None, -1), False), (slice(-1, None), True)] if s else [(slice(None), False)] for s in shift]
    runs = []
    for choice in itertools.product(*axes):
        along, cut = zip(*choice, strict=True)
        runs.append((rows[along].reshape(-1, d * h * w), cut))
    return runs


def mask(window: Size3, shift: Size3, cut: tuple[bool, ...], device: torch.device) -> Tensor | None:
    """Return the mask of a window cut along some axes, `tokens x tokens`; `None` where every token sees every other."""
    if not any(cut):
        return None
    starts = (w - s if c else w for w, s, c in zip(window, shift, cut, strict=True))
    parts = [torch.arange(w, device=device) >= start for w, start in zip(window, starts, strict=True)]
    first, second, third = torch.meshgrid(*parts, indexing="ij")
    region = (first * 4 + second * 2 + third * 1).flatten()
    return (region[:, None] != region[None, :]) * MASKED


def _padded(grid: Size3, window: Size3) -> Size3:
    return tuple(-(-g // w) * w for g, w in zip(grid, window, strict=True))  # type: ignore[return-value]


@lru_cache(maxsize=128)
def bias_index(window: Size3, device: torch.device) -> Tensor:
    """Return the row of the relative-position table for each pair of tokens of a window, `tokens x tokens`."""
    with torch.inference_mode(False):
        axes = torch.meshgrid(*(torch.arange(n, device=device) for n in window), indexing="ij")
        position = torch.stack([axis.flatten() for axis in axes])
        dt, dh, dw = (position[:, :, None] - position[:, None, :]).unbind(0)
        _, height, width = window
        return ((dt + window[0] - 1) * (2 * height - 1) + dh + height - 1) * (2 * width - 1) + dw + width - 1


class _PermuteRows(torch.autograd.Function):
    # The gradient of a permutation is the inverse permutation: a gather, where autograd would scatter and add.
    @staticmethod
    def forward(ctx: Any, x: Tensor, into: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(into, back)
        return x.index_select(0, into)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        into, back = ctx.saved_tensors
        return permute_rows(grads[0], back, into), None, None


def permute_rows(x: Tensor, into: Tensor, back: Tensor) -> Tensor:
    """Return `x[into]` for a permutation of the rows of `R C`, whose inverse is `back`."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _PermuteRows.apply(x, into, back)  # type: ignore[return-value]
    return x.index_select(0, into)
