"""Temporal Patch Shift (Xiang et al., ECCV 2022; MartinXM/TPS): a 2D Swin sees time through shifted tokens.

    models.build("tps/swin_t", num_classes=400)(clip)     # N 3 32 224 224 -> N 400

Attention stays inside a window of one frame. Even blocks shift channels between neighbouring frames, odd ones exchange
tokens inside each window: `_time_shift` has both. The exchange is a permutation, and so part of the one that cuts the
windows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..spec import Clip, Recipe, Views
from . import Variant, _layers, _swin, _time_shift, _windows
from ._windows import Size3, Windows


class ShiftAttention(nn.Module):
    """Attention inside windows of one frame, over tokens or channels shifted in time. `B D H W C` -> the same.

    `patch` shifts tokens (and the windows by half), otherwise channels are shifted. The relative-position table and
    the pattern of exchanges are bound to `frames` tokens along time.
    """

    def __init__(self, dim: int, heads: int, frames: int, side: int, *, patch: bool) -> None:
        super().__init__()
        self.heads = heads
        self.frames = frames
        self.window: Size3 = (1, side, side)
        self.patch = patch
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * frames - 1) * (2 * side - 1) ** 2, heads))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, grid = x.shape[0], (x.shape[1], x.shape[2], x.shape[3])
        self._check(grid)
        side = self.window[1]
        windows = frame_windows(grid, side, self.patch, x.device)
        if not self.patch:
            x = _time_shift.shift_channels(x, self.heads)
        q, k, v = self._split(self.qkv(windows.cut(x)))
        bias = self._bias().to(q.dtype)
        out = _windows.attend_kinds(windows, batch, self._attend, q, k, v, bias=bias)
        return windows.join(self.proj(out), batch)

    def _split(self, qkv: Tensor) -> tuple[Tensor, ...]:
        # Every frame has a bias of its own: frames become heads, `W D N (3 h d)` -> three of `W (D h) N d`.
        parts = qkv.unflatten(-1, (3, self.heads, -1)).unflatten(1, (self.frames, -1))
        return parts.permute(3, 0, 1, 4, 2, 5).flatten(2, 3).unbind(0)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        out = _layers.fused_attention(q, k, v, bias)
        return out.unflatten(1, (self.frames, self.heads)).transpose(2, 3).flatten(3).flatten(1, 2)

    def _bias(self) -> Tensor:
        table = self.relative_position_bias_table
        index = _bias_index(self.frames, self.window[1], self.patch, table.device)
        bias = table.t()[:, index.reshape(-1)].view(self.heads, *index.shape)
        return bias.transpose(0, 1).flatten(0, 1)[None]  # fewer dimensions would miss the fused kernel

    def _check(self, grid: Size3) -> None:
        frames, height, width = grid
        if frames != self.frames:
            raise UserError(f"tps: built for {self.frames} steps in time, got {frames}; change clip frames or `frames`")
        if min(height, width) < self.window[1]:
            raise UserError(
                f"tps: {height}×{width} tokens are smaller than the {self.window[1]}×{self.window[1]} window"
            )


@lru_cache(maxsize=64)
def frame_windows(grid: Size3, side: int, patch: bool, device: torch.device) -> Windows:
    """Return how to cut a grid of tokens: every frame of a `side` x `side` window, exchanged in time for `patch`."""
    frames, height, width = grid
    window, half = (frames, side, side), side // 2
    shift = (0, half if patch and height > side else 0, half if patch and width > side else 0)
    with torch.inference_mode(False):
        runs = []
        for rows, cut in _windows.cut_runs(grid, window, shift, device):
            if patch:
                rows = _exchange(rows.unflatten(1, (frames, -1)), side).flatten(1)
            runs.append((rows, _windows.mask((1, side, side), shift, cut, device)))
        return _windows.assemble(grid, window, runs)


def _exchange(rows: Tensor, side: int) -> Tensor:
    """Exchange the rows of a window's tokens along time: `windows D tokens` -> the same."""
    source = _time_shift.sources(rows.shape[1], _time_shift.steps(side, side, rows.device))
    return rows.gather(1, source.expand_as(rows))


@lru_cache(maxsize=16)
def _bias_index(frames: int, side: int, patch: bool, device: torch.device) -> Tensor:
    """Return the table's rows, `D tokens tokens`. As in the official code, the key counts as if it stood at frame 0."""
    with torch.inference_mode(False):
        plane = _windows.bias_index((1, side, side), device)
        time = torch.arange(frames, device=device)[:, None, None].expand(-1, *plane.shape)
        if patch:
            steps = _time_shift.steps(side, side, device)
            time = (time - steps[:, None]) % frames - (-steps[None, :]) % frames
        return (time + frames - 1) * (2 * side - 1) ** 2 + plane


class TPSSwin(nn.Module):
    """`N 3 T H W` -> logits `N classes`; T must give `frames` steps of `patch[0]` frames."""

    def __init__(
        self,
        *,
        num_classes: int = 400,
        dim: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        frames: int = 16,
        side: int = 7,
        patch: Size3 = (2, 4, 4),
        drop_path: float = 0.1,
        dropout: float = 0.5,
        init_std: float = 0.02,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = _swin.SwinBackbone(
            lambda width, h, index: ShiftAttention(width, h, frames, side, patch=index % 2 == 1),
            patch=patch,
            dim=dim,
            depths=depths,
            heads=heads,
            drop_path=drop_path,
            init_std=init_std,
            checkpoint_activations=checkpoint_activations,
        )
        self.cls_head = _layers.PooledHead(self.backbone.norm.normalized_shape[0], num_classes, dropout)

    def forward(self, clip: Tensor) -> Tensor:
        return self.cls_head(self.backbone(clip))


def official_keys(key: str) -> str | None:
    """Drop the index buffers of an official file; its other names are ours."""
    return None if "relative_position_index" in key else key


# The published configuration means to spare norms from weight decay; as built, only the tables are spared.
RECIPE = Recipe(
    epochs=30, batch=64, lr=1e-3, weight_decay=0.02, warmup_epochs=2.5, schedule_by="epoch",
    precision="fp16",
    lr_rules=((r"relative_position_bias_table", 1.0), (r"^backbone\.", 0.1)),
    decay_rules=((r"relative_position_bias_table", 0.0), (r"", 1.0)),
)  # fmt: skip
DIVING = replace(
    RECIPE, clip=Clip(frames=32, sampling="uniform"), label_smoothing=0.02, rand_augment="imgaug_default", erase=0.25
)
# Clips of the classes that name a direction are not mirrored.
STH = replace(DIVING, label_smoothing=0.1, flip_keeps=(86, 87, 93, 94, 166, 167))


VARIANTS = {
    "swin_t": Variant(
        build=TPSSwin,
        clip=Clip(frames=32, stride=2, sampling="dense_middle"),
        views=Views(clips=4, crops=3, short_side=224),
        recipes={"kinetics400": RECIPE, "sthv1": STH, "sthv2": STH, "diving48": DIVING},
        keys=official_keys,
        inflate=_swin.inflate,
    ),
    "micro": Variant(
        build=TPSSwin,
        options={
            "dim": 48,
            "depths": (2, 2),
            "heads": (3, 6),
            "frames": 4,
            "side": 4,
            "patch": (2, 4, 4),
            "drop_path": 0.0,
            "dropout": 0.0,
            "init_std": 0.1,
        },
        clip=Clip(frames=8, stride=2, size=32, short_side=32),
        num_classes=8,
        keys=official_keys,
        inflate=_swin.inflate,
    ),
}
