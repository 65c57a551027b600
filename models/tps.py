"""Temporal Patch Shift (Xiang et al., ECCV 2022; MartinXM/TPS): a 2D Swin with tokens shifted in time.

    models.build("tps/swin_t", num_classes=400)(clip)     # N 3 32 224 224 -> N 400

Attention stays within a window of one frame. Even blocks shift channels between neighboring frames, odd ones shift
patches in time (see `_time_shift`): a permutation, which is composed with that of the window partition.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..spec import Clip, Published, Recipe, Views
from . import Variant, _layers, _releases, _swin, _swin_names, _time_shift, _windows
from ._windows import Size3, Windows


class ShiftAttention(_windows.WindowedAttention):
    """Attention inside windows of one frame, over tokens or channels shifted in time. `B D H W C` -> the same.

    `patch` shifts tokens (and the windows by half), otherwise channels are shifted. The relative-position table
    and the pattern of shifts are those of `frames` tokens along time. Raises UserError if D is not `frames`, or the
    grid's H or W is below `side`, the window's.
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
        windows = self.windows(grid, x.device)
        if not self.patch:
            x = _time_shift.shift_channels(x, self.heads)
        q, k, v = self._split(self.qkv(windows.partition(x)))
        side = q.shape[2]
        bias = self.relative_position_bias_table.t()[:, windows.pairs].view(1, -1, side, side).to(q.dtype)
        out = _windows.attend_groups(windows, batch, _layers.fused_attention, q, k, v, bias=bias)
        return windows.reverse(self.proj(self._merge(out)), batch)

    def _split(self, qkv: Tensor) -> tuple[Tensor, ...]:
        # Every frame has a bias of its own: frames become heads, `W (D N) (3 h d)` -> three of `W (h D) N d`.
        parts = qkv.unflatten(-1, (3, self.heads, -1)).unflatten(1, (self.frames, -1))
        return parts.permute(3, 0, 4, 1, 2, 5).flatten(2, 3).unbind(0)

    def _merge(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.heads, self.frames)).permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2)

    def plan(self, grid: Size3, device: torch.device) -> Windows:
        """Return the window partition of a grid, with the tokens of a window shifted in time for `patch`."""
        (_, side, _), half = self.window, self.window[1] // 2
        shift = tuple(half if self.patch and axis and length > side else 0 for axis, length in enumerate(grid))
        pairs = _bias_index(self.frames, side, self.patch, device)
        shift_tokens = _shift_patches if self.patch else None
        window = (self.frames, side, side)
        return _windows.plan(grid, window, shift, device, within=self.window, shift_tokens=shift_tokens, pairs=pairs)  # type: ignore[arg-type]

    def _check(self, grid: Size3) -> None:
        frames, height, width = grid
        if frames != self.frames:
            raise UserError(f"tps: built for {self.frames} steps in time, got {frames}")
        if min(height, width) < self.window[1]:
            raise UserError(
                f"tps: {height}×{width} tokens are smaller than the {self.window[1]}×{self.window[1]} window"
            )


def _shift_patches(rows: Tensor) -> Tensor:
    """Patch-shift token indices in each window: `windows D tokens` -> the same."""
    side = math.isqrt(rows.shape[2])
    source = _time_shift.sources(rows.shape[1], _time_shift.steps(side, side, rows.device))
    return rows.gather(1, source.expand_as(rows))


@lru_cache(maxsize=16)
def _bias_index(frames: int, side: int, patch: bool, device: torch.device) -> Tensor:
    """Return indices into the bias table, `D tokens tokens`; keys count as in frame 0, as in the official code."""
    with torch.inference_mode(False):
        plane = _windows.bias_index((1, side, side), side * side, device).view(side * side, -1)
        time = torch.arange(frames, device=device)[:, None, None].expand(-1, *plane.shape)
        if patch:
            steps = _time_shift.steps(side, side, device)
            time = (time - steps[:, None]) % frames - (-steps[None, :]) % frames
        return ((time + frames - 1) * (2 * side - 1) ** 2 + plane).flatten()


class TPSSwin(nn.Module):
    """`N 3 T H W` -> logits `N classes`; T must be `frames` x `patch[0]`.

    `side` is the window's, in tokens. Raises UserError if T is another, or any stage's grid is smaller than the window.
    """

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


# The published configuration intends no weight decay for norms; as built, it exempts the bias tables alone.
RECIPE = Recipe(
    epochs=30, batch=64, lr=1e-3, weight_decay=0.02, warmup_epochs=2.5, schedule_by="epoch",
    precision="fp16",
    lr_rules=((r"relative_position_bias_table", 1.0), (r"^backbone\.", 0.1)),
    decay_rules=((r"relative_position_bias_table", 0.0), (r"", 1.0)),
)  # fmt: skip
DIVING = replace(
    RECIPE, clip=Clip(frames=32, sampling="uniform"), label_smoothing=0.02, rand_augment="imgaug_default", erase=0.25
)
# No horizontal flip for classes that name a direction.
STH = replace(DIVING, label_smoothing=0.1, flip_keeps=(86, 87, 93, 94, 166, 167))

_variant = partial(
    Variant, build=TPSSwin, namings=_swin_names.OFFICIAL, image_namings=_swin_names.IMAGE_NAMINGS,
    inflate=_swin.inflate,
    gradcam_layer="backbone.layers.-1.blocks.-1", attention_stage="backbone.layers.-1",
)  # fmt: skip

VARIANTS = {
    "swin_t": _variant(
        clip=Clip(frames=32, stride=2, sampling="dense_middle"),
        views=Views(clips=4, crops=3, short_side=224),
        published=(
            Published(
                model="tps/swin_t", dataset="kinetics400", source="MartinXM/TPS, README", checkpoint=_releases.TPS
            ),
        ),
        recipes={"kinetics400": RECIPE, "sthv1": STH, "sthv2": STH, "diving48": DIVING},
    ),
    "micro": _variant(
        kwargs={
            "dim": 48,
            "depths": (2, 2),
            "heads": (3, 6),
            "frames": 4,
            "side": 2,
            "patch": (2, 8, 8),
            "drop_path": 0.0,
            "dropout": 0.0,
            "init_std": 0.25,
        },
        clip=Clip(frames=8, stride=2, size=32, short_side=32),
        num_classes=8,
    ),
}
