"""Video Swin Transformer (Liu et al., 2022; SwinTransformer/Video-Swin-Transformer): attention in shifted 3D windows.

    models.build("video_swin/t", num_classes=400)(clip)     # N 3 32 224 224 -> N 400

Every second block shifts its windows by half, which connects neighboring ones. Clips that are no multiple of the
window are padded, and an axis shorter than its window becomes one window.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ..spec import Clip, Published, Recipe, Views
from . import Variant, _layers, _releases, _swin, _swin_names, _windows
from ._windows import Size3, Windows


class WindowAttention(_windows.WindowedAttention):
    """Attention inside shifted 3D windows, with a learned bias for each relative position. `B D H W C` -> the same."""

    def __init__(self, dim: int, heads: int, window: Size3, *, shifted: bool) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.shift: Size3 = tuple(w // 2 if shifted else 0 for w in window)  # type: ignore[assignment]
        t, h, w = (2 * size - 1 for size in window)
        self.relative_position_bias_table = nn.Parameter(torch.empty(t * h * w, heads))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, grid = x.shape[0], (x.shape[1], x.shape[2], x.shape[3])
        windows = self.windows(grid, x.device)
        q, k, v = _layers.split_heads(self.qkv(windows.partition(x)), 3, self.heads)
        tokens = windows.tokens
        bias = self.relative_position_bias_table.t()[:, windows.pairs]
        bias = bias.view(1, self.heads, tokens, tokens).to(q.dtype)  # fewer dimensions would miss the fused kernel
        out = _windows.attend_groups(windows, batch, _layers.attend, q, k, v, bias=bias)
        return windows.reverse(self.proj(out), batch)

    def plan(self, grid: Size3, device: torch.device) -> Windows:
        """Return the window partition of a grid of D x H x W tokens."""
        window, shift = _windows.clamp(grid, self.window, self.shift)
        # A clamped window uses a corner of the full window's index, as the official code does. The pairs are the
        # right ones when only time is clamped, others when a side of the image is.
        pairs = _windows.bias_index(self.window, math.prod(window), device)
        return _windows.plan(grid, window, shift, device, pairs=pairs)


class VideoSwin(nn.Module):
    """`N 3 T H W` -> logits `N classes`. `window` is T x H x W in tokens, `drop_path` the rate of the last block."""

    def __init__(
        self,
        *,
        num_classes: int = 400,
        dim: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        window: Size3 = (8, 7, 7),
        patch: Size3 = (2, 4, 4),
        drop_path: float = 0.1,
        dropout: float = 0.5,
        init_std: float = 0.02,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = _swin.SwinBackbone(
            lambda width, h, index: WindowAttention(width, h, window, shifted=index % 2 == 1),
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


README = "SwinTransformer/Video-Swin-Transformer, README"
CLIP = Clip(frames=32, stride=2, sampling="dense_middle")
TEST = Views(clips=4, crops=3, short_side=224)
BASE = {"dim": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)}

# The published configuration intends no weight decay for norms; as built, it exempts the bias tables alone.
RECIPE = Recipe(
    epochs=30, batch=64, accumulate=4, lr=1e-3, weight_decay=0.02, warmup_epochs=2.5, schedule_by="epoch",
    precision="fp16",
    lr_rules=((r"relative_position_bias_table", 1.0), (r"^backbone\.", 0.1)),
    decay_rules=((r"relative_position_bias_table", 0.0), (r"", 1.0)),
)  # fmt: skip
RECIPE_SMALL = replace(RECIPE, accumulate=8)
RECIPE_BASE = replace(RECIPE_SMALL, weight_decay=0.05)
RECIPE_22K = replace(RECIPE_BASE, lr=3e-4, drop_path=0.2)
RECIPE_STH = replace(
    RECIPE_22K, epochs=60, flip=0.0, label_smoothing=0.1, rand_augment="imgaug_n4_m7", erase=0.25, drop_path=None
)


def _published(
    model: str, dataset: str, top1: float, top5: float, gflops: float, params: float, pretrain: str
) -> Published:
    return Published(
        model=model, dataset=dataset, source=README, top1=top1, top5=top5, gflops=gflops, params_m=params,
        views="1x3" if dataset == "sthv2" else "4x3", pretrain=pretrain, size=224,
        **_releases.video_swin(model.partition("/")[2], dataset, pretrain),
    )  # fmt: skip


_variant = partial(
    Variant, build=VideoSwin, namings=_swin_names.NAMINGS, image_namings=_swin_names.IMAGE_NAMINGS,
    inflate=_swin.inflate,
    gradcam_layer="backbone.layers.-1.blocks.-1", attention_stage="backbone.layers.-1",
)  # fmt: skip

VARIANTS = {
    "t": _variant(
        clip=CLIP,
        views=TEST,
        published=(_published("video_swin/t", "kinetics400", 78.8, 93.6, 87.9, 28, "ImageNet-1K"),),
        recipes={"kinetics400": RECIPE},
    ),
    "s": _variant(
        kwargs={"depths": (2, 2, 18, 2)},
        clip=CLIP,
        views=TEST,
        published=(_published("video_swin/s", "kinetics400", 80.6, 94.5, 165.9, 50, "ImageNet-1K"),),
        recipes={"kinetics400": RECIPE_SMALL},
    ),
    "b": _variant(
        kwargs={**BASE, "drop_path": 0.3},
        clip=CLIP,
        views=TEST,
        published=(
            _published("video_swin/b", "kinetics400", 80.6, 94.6, 281.6, 88, "ImageNet-1K"),
            _published("video_swin/b", "kinetics400", 82.7, 95.5, 281.6, 88, "ImageNet-22K"),
            _published("video_swin/b", "kinetics600", 84.0, 96.5, 281.6, 88, "ImageNet-22K"),
        ),
        recipes={"kinetics400": RECIPE_BASE, "kinetics400_22k": RECIPE_22K, "kinetics600_22k": RECIPE_22K},
    ),
    "b_w16": _variant(
        kwargs={**BASE, "window": (16, 7, 7), "drop_path": 0.4},
        clip=Clip(frames=32, sampling="uniform"),
        num_classes=174,
        views=Views(clips=1, crops=3, short_side=224),
        published=(_published("video_swin/b_w16", "sthv2", 69.6, 92.7, 320.6, 89, "Kinetics-400 (ImageNet-22K)"),),
        recipes={"sthv2": RECIPE_STH},
    ),
    "micro": _variant(
        kwargs={
            "dim": 48,
            "depths": (2, 2),
            "heads": (3, 6),
            "window": (2, 4, 4),
            "patch": (2, 4, 4),
            "drop_path": 0.0,
            "dropout": 0.0,
            "init_std": 0.1,
        },
        clip=Clip(frames=8, stride=2, size=32, short_side=32),
        num_classes=8,
    ),
}
