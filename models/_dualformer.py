"""The backbone of DualFormer: windowed attention, attention to a pooled clip, convolutional position encodings.

Parameter names are those of the official release, sail-sg/dualformer. Tokens are `B D H W C`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..errors import UserError
from . import _layers, _windows
from ._swin import Block
from ._windows import Size3, WindowedAttention, Windows


class PatchEmbed(nn.Module):
    """Patch embedding (strided Conv3d), then LayerNorm: `B C D H W` -> `B D' H' W' C'`. Drops incomplete patches."""

    def __init__(self, ins: int, dim: int, patch: Size3) -> None:
        super().__init__()
        self.proj = nn.Conv3d(ins, dim, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 4, 1))


class LocalAttention(WindowedAttention):
    """Attention inside windows that neither shift nor overlap. `B D H W C` -> the same.

    Raises UserError if a side of the grid is no multiple of the window's.
    """

    def __init__(self, dim: int, heads: int, window: Size3) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, grid = x.shape[0], (x.shape[1], x.shape[2], x.shape[3])
        if any(g % w for g, w in zip(grid, self.window, strict=True)):
            raise UserError(
                f"dualformer: a grid of {grid} tokens is no multiple of the window {self.window}: frames must be a "
                f"multiple of {2 * self.window[0]} and the published sizes are multiples of 224"
            )
        windows = self.windows(grid, x.device)
        q, k, v = _layers.split_heads(self.qkv(windows.partition(x)), 3, self.heads)
        return windows.reverse(self.proj(_layers.attend(q, k, v)), batch)

    def plan(self, grid: Size3, device: torch.device) -> Windows:
        """Return the window partition of a grid of D x H x W tokens."""
        return _windows.plan(grid, self.window, (0, 0, 0), device)


class PyramidAttention(nn.Module):
    """Every token attends to the clip pooled to a fine and a coarse grid. `B D H W C` -> the same.

    `fine` is the kernel (and stride) of the fine pooling, (1, 1, 1) for no pooling at all; `coarse` the kernels of the
    two coarse pooling convolutions, `None` for no coarse grid.
    """

    def __init__(self, dim: int, heads: int, fine: Size3, coarse: tuple[Size3, Size3] | None) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        pooled = fine != (1, 1, 1)
        self.sr = nn.Conv3d(dim, dim, fine, fine, groups=dim) if pooled else None
        self.norm = nn.LayerNorm(dim) if pooled else None
        self.lr = None
        if coarse is not None:
            first, second = coarse
            self.lr = nn.Sequential(
                nn.Conv3d(dim, dim, first, first, groups=dim),
                nn.BatchNorm3d(dim),
                nn.ReLU(inplace=True),
                nn.Conv3d(dim, dim, second, second, groups=dim),
            )

    def forward(self, x: Tensor) -> Tensor:
        (q,) = _layers.split_heads(self.q(x.flatten(1, 3)), 1, self.heads)
        k, v = _layers.split_heads(self.kv(self._pool(x)), 2, self.heads)
        return self.proj(_layers.attend(q, k, v)).view_as(x)

    def _pool(self, x: Tensor) -> Tensor:
        if self.sr is None or self.norm is None:
            return x.flatten(1, 3)
        image = x.permute(0, 4, 1, 2, 3)
        levels = [pool(image).flatten(2) for pool in (self.sr, self.lr) if pool is not None]
        return self.norm(torch.cat(levels, dim=2).transpose(1, 2))


class PositionEncoding(nn.Module):
    """Position encoding by a depthwise 3x3x3 convolution, added to its input. `B D H W C` -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv3d(dim, dim, 3, 1, 1, groups=dim))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.proj(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


class DualFormerBackbone(nn.Module):
    """`N 3 T H W` -> `N C D H' W'`: C = dims[-1], D = T / 2, and with four stages H' = H / 32.

    The pooling kernels are those of a clip of `frames` x `size` x `size` pixels. Raises UserError if a stage's grid is
    no multiple of the window `local`.
    """

    def __init__(
        self,
        *,
        dims: tuple[int, ...],
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        frames: int,
        size: int,
        local: Size3,
        fine: tuple[Size3, ...],
        coarse: Size3,
        drop_path: float,
        init_std: float,
        checkpoint_activations: bool,
    ) -> None:
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        rates = iter(_layers.drop_rates(drop_path, sum(depths)))
        self.patch_embeds, self.blocks, self.pos_block = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        ins = 3
        for stage, (dim, depth, h) in enumerate(zip(dims, depths, heads, strict=True)):
            side = size // (4 * 2**stage)
            pools = _pools((frames // 2, side, side), local, fine[stage], coarse)
            self.patch_embeds.append(PatchEmbed(ins, dim, (1, 2, 2) if stage else (2, 4, 4)))
            self.blocks.append(nn.ModuleList(_block(dim, h, local, pools, i, next(rates)) for i in range(depth)))
            self.pos_block.append(PositionEncoding(dim))
            ins = dim
        self.norm = nn.LayerNorm(ins)
        _layers.init_transformer(self, init_std)

    def forward(self, clip: Tensor) -> Tensor:
        run = partial(_layers.run, checkpointed=self.checkpoint_activations and self.training)
        x = clip
        for stage, (embed, blocks, position) in enumerate(
            zip(self.patch_embeds, self.blocks, self.pos_block, strict=True)
        ):
            x = embed(x if stage == 0 else x.permute(0, 4, 1, 2, 3))
            first, *rest = blocks  # type: ignore[misc]
            x = position(run(first, x))
            for block in rest:
                x = run(block, x)
        return self.norm(x).permute(0, 4, 1, 2, 3)


def _block(dim: int, heads: int, local: Size3, pools: tuple, index: int, drop_path: float) -> Block:
    attention = PyramidAttention(dim, heads, *pools) if index % 2 else LocalAttention(dim, heads, local)
    return Block(dim, attention, drop_path)


def _pools(grid: Size3, local: Size3, fine: Size3, coarse: Size3) -> tuple[Size3, tuple[Size3, Size3] | None]:
    """Return the pooling kernels of a stage: the fine one, and the two of the coarse grid where there is one.

    A zero (the grid is smaller than the pooled one) means no pooling, as in the official code.
    """
    kernel = _divide(grid, fine)
    if kernel == (1, 1, 1) or 0 in kernel:
        return (1, 1, 1), None
    first = (1, local[1], local[2])
    second = _divide(_divide(grid, first), coarse)
    return kernel, None if 0 in second else (first, second)


def _divide(one: Size3, other: Size3) -> Size3:
    return tuple(a // b for a, b in zip(one, other, strict=True))  # type: ignore[return-value]
