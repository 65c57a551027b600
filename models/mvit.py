"""MViT: pooled queries, keys and values reduce the resolution stage by stage while the width grows.

Fan et al., Multiscale Vision Transformers, 2021 (arXiv 2104.11227), MViT-B 16x4 with absolute positions, in two
layouts: the paper's, and that of github.com/mx-mark/VideoTransformer-pytorch for MaskFeat, which does not pool the
queries of block 14. LayerNorm has eps 1e-6, after pooling 1e-5.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..spec import Clip, Published, Recipe, Views
from . import _mvit_names, _releases
from ._layers import DropPath, Mlp, attend, drop_rates, init_transformer, run
from ._variant import Variant
from ._vit import GRADCAM_LAYER, MEAN, STD, make_head

Grid = tuple[int, int, int]

CLIP = Clip(frames=16, stride=4, size=224, short_side=256, sampling="window", mean=MEAN, std=STD)
VIEWS = Views(clips=5, crops=1)
FINETUNE = Recipe(
    epochs=200,
    batch=64,
    optimizer="adamw",
    lr=0.00125,  # 0.005 at a batch of 256
    auto_scale_lr=True,
    weight_decay=0.05,
    lr_rules=(
        (r"^(mask_token|patch_embed|cls_token|pos_embed)", 0.75**17),
        *((rf"^blocks\.{i}\.", 0.75 ** (16 - i)) for i in range(16)),
    ),
    decay_rules=((r"\.bias$|norm|pos_embed|cls_token|mask_token", 0.0),),
    schedule="cosine",
    schedule_by="epoch",
    warmup_epochs=5,
    warmup_ratio=0.2,
    warmup_by="epoch",
    min_lr=1e-6,
    label_smoothing=0.1,
    mixup=0.8,
    cutmix=1.0,
    rand_augment="torchvision_n2_m9",
    precision="fp16",
)
MASKFEAT = replace(
    FINETUNE,
    objective="maskfeat",
    epochs=300,
    batch=128,
    lr=4e-4,  # 8e-4 at a batch of 256
    lr_rules=(),
    min_lr=0,
    crop_area=(0.5, 1.0),
    label_smoothing=0,
    mixup=0,
    cutmix=0,
    rand_augment="",
)


class Pool(nn.Module):
    """Pool the tokens of a T×H×W grid with one depthwise filter for all heads; the class token is not pooled.

    `forward(x, grid)` with `grid` = (T, H, W): `N (1 + T H W) C` -> `N (1 + T H' W') C`, H' = H / stride rounded up.
    """

    def __init__(self, head_dim: int, stride: int, kernel: Grid = (3, 3, 3)) -> None:
        super().__init__()
        self.stride = (1, stride, stride)
        self.padding = tuple(size // 2 for size in kernel)
        self.weight = nn.Parameter(torch.empty(head_dim, 1, *kernel))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        # With heads concatenated in the channels, the tokens are a channels-last volume without a copy.
        volume = x[:, 1:].unflatten(1, grid).permute(0, 4, 1, 2, 3)
        heads = x.shape[-1] // self.weight.shape[0]
        weight = self.weight.repeat(heads, 1, 1, 1, 1)
        pooled = F.conv3d(volume, weight, stride=self.stride, padding=self.padding, groups=x.shape[-1])
        return torch.cat((x[:, :1], pooled.flatten(2).transpose(1, 2)), dim=1)


class PooledAttention(nn.Module):
    """Self-attention with pooled keys and values, and pooled queries where `q_stride` is above 1.

    `forward(x, grid)` with `grid` = (T, H, W): `N (1 + T H W) C` -> `N (1 + T H' W') C`. Filters are of size `kernel`,
    `None`: one more than the stride, in space only, and then none where the stride is 1.
    """

    def __init__(self, dim: int, heads: int, q_stride: int, kv_stride: int, kernel: Grid | None = (3, 3, 3)) -> None:
        super().__init__()
        head_dim = dim // heads
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.pool_q = self.pool_k = self.pool_v = None
        if q_stride > 1:
            self.pool_q = Pool(head_dim, q_stride, kernel or (1, q_stride + 1, q_stride + 1))
            self.norm_q = nn.LayerNorm(head_dim, eps=1e-5)
        if kernel or kv_stride > 1:
            size = kernel or (1, kv_stride + 1, kv_stride + 1)
            self.pool_k = Pool(head_dim, kv_stride, size)
            self.norm_k = nn.LayerNorm(head_dim, eps=1e-5)
            self.pool_v = Pool(head_dim, kv_stride, size)
            self.norm_v = nn.LayerNorm(head_dim, eps=1e-5)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        q = self._split(q) if self.pool_q is None else self.norm_q(self._split(self.pool_q(q, grid)))
        k = self._split(k) if self.pool_k is None else self.norm_k(self._split(self.pool_k(k, grid)))
        v = self._split(v) if self.pool_v is None else self.norm_v(self._split(self.pool_v(v, grid)))
        return self.proj(attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)))


class WideningMlp(Mlp):
    """The MLP with another output width. `... dim` -> `... dim_out`."""

    def __init__(self, dim: int, hidden: int, dim_out: int) -> None:
        super().__init__(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim_out)


class MultiscaleBlock(nn.Module):
    """Pooled attention, then an MLP that may widen.

    `forward(x, grid)` with `grid` = (T, H, W): `N (1 + T H W) dim` -> `N (1 + T H' W') dim_out`.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        heads: int,
        q_stride: int,
        kv_stride: int,
        drop_path: float,
        kernel: Grid | None = (3, 3, 3),
    ) -> None:
        super().__init__()
        self.q_stride = q_stride
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = PooledAttention(dim, heads, q_stride, kv_stride, kernel)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = WideningMlp(dim, 4 * dim, dim_out)
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None
        self.drop_path = DropPath(drop_path)

    def _shrink(self, x: Tensor, grid: Grid) -> Tensor:
        volume = x[:, 1:].unflatten(1, grid).permute(0, 4, 1, 2, 3)
        stride = (1, self.q_stride, self.q_stride)
        pooled = F.max_pool3d(volume, (1, 3, 3), stride, padding=(0, 1, 1))
        return torch.cat((x[:, :1], pooled.flatten(2).transpose(1, 2)), dim=1)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        update = self.attn(self.norm1(x), grid)
        x = (self._shrink(x, grid) if self.q_stride > 1 else x) + self.drop_path(update)
        y = self.norm2(x)
        # The shortcut of a widening block starts from the normalized tokens.
        return (x if self.proj is None else self.proj(y)) + self.drop_path(self.mlp(y))


class MViT(nn.Module):
    """Multiscale Vision Transformer. `N 3 T H W` -> `N classes`.

    Raises UserError if the clip is not of `frames` x `size` x `size`, which must be multiples of `patch_stride`. Width
    and heads double at the blocks in `widen_at`, queries are pooled 2x2 in space at those in `pool_at`; the stride of
    keys and values starts at `kv_stride` and halves at each pooling of queries; for `pool_kernel` see
    `PooledAttention`. `mask_token` and `decoder_pred` (`feature_dim` wide, frozen) are for MaskFeat's pre-training
    only; fine-tuned files of the reference contain them.
    """

    def __init__(
        self,
        num_classes: int = 400,
        *,
        frames: int = 16,
        size: int = 224,
        patch_stride: Grid = (2, 4, 4),
        dim: int = 96,
        depth: int = 16,
        heads: int = 1,
        widen_at: tuple[int, ...] = (1, 3, 14),
        pool_at: tuple[int, ...] = (1, 3, 14),
        kv_stride: int = 8,
        pool_kernel: Grid | None = (3, 3, 3),
        feature_dim: int = 10,
        drop_path: float = 0.0,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.clip_shape = (frames, size, size)
        self.checkpoint_activations = checkpoint_activations
        if any(length % stride for length, stride in zip(self.clip_shape, patch_stride, strict=True)):
            raise UserError(f"mvit: a clip of {frames}×{size}×{size} is no multiple of patch_stride={patch_stride}")
        slots, rows, columns = (n // s for n, s in zip(self.clip_shape, patch_stride, strict=True))

        self.patch_embed = nn.Conv3d(3, dim, (3, 7, 7), stride=patch_stride, padding=(1, 3, 3))
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed_class = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed_spatial = nn.Parameter(torch.empty(1, rows * columns, dim))
        self.pos_embed_temporal = nn.Parameter(torch.empty(1, slots, dim))
        self.blocks = nn.ModuleList()
        self.grids: list[Grid] = [(slots, rows, columns)]  # the input grids of the blocks, then the output's
        for i, rate in enumerate(drop_rates(drop_path, depth)):
            q_stride = 2 if i in pool_at else 1
            kv_stride = max(kv_stride // q_stride, 1)
            heads = heads * (2 if i in widen_at else 1)
            dim_out = dim * (2 if i + 1 in widen_at else 1)
            self.blocks.append(MultiscaleBlock(dim, dim_out, heads, q_stride, kv_stride, rate, pool_kernel))
            dim, rows, columns = dim_out, -(-rows // q_stride), -(-columns // q_stride)
            self.grids.append((slots, rows, columns))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.decoder_pred = nn.Linear(dim, feature_dim)
        self._init_weights()
        self.cls_head = make_head(dim, num_classes)

    def _init_weights(self) -> None:
        init_transformer(self)
        for table in self.parameters(recurse=False):
            nn.init.trunc_normal_(table, std=0.02)
        nn.init.xavier_uniform_(self.patch_embed.weight.flatten(1))
        nn.init.xavier_uniform_(self.decoder_pred.weight)
        # Frozen except in pre-training: no other loss depends on it.
        self.decoder_pred.requires_grad_(False)

    @property
    def output_grid(self) -> Grid:
        """Return the grid (T, H, W) of the tokens after the last block."""
        return self.grids[-1]

    def encode(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the tokens after the last block: `N 3 T H W` -> `N (1 + T' H' W') D`, not normalized.

        `mask`, bool `N T' H' W'` on the grid of the last block, replaces masked patches by `mask_token`.
        Raises UserError if the clip has another shape than the model was built for.
        """
        if tuple(clip.shape[2:]) != self.clip_shape:
            raise UserError(f"mvit: built for clips of T×H×W = {self.clip_shape}, got {tuple(clip.shape[2:])}")
        x = self.patch_embed(clip).flatten(3).permute(0, 2, 3, 1)  # N T (H W) D
        if mask is not None:
            x = torch.where(self._dense(mask), self.mask_token[:, None].to(x.dtype), x)
        x = x + self.pos_embed_spatial[:, None] + self.pos_embed_temporal[:, :, None]
        cls = (self.cls_token + self.pos_embed_class).expand(x.shape[0], -1, -1)
        x = torch.cat((cls, x.flatten(1, 2)), dim=1)
        for block, grid in zip(self.blocks, self.grids, strict=False):
            x = run(block, x, grid, checkpointed=self.checkpoint_activations and self.training)
        return x

    def _dense(self, mask: Tensor) -> Tensor:
        """Upsample a mask to the patch grid: bool `N T' H' W'` -> `N T (H W) 1`."""
        repeats = self.grids[0][1] // mask.shape[2]
        mask = mask.repeat_interleave(repeats, dim=2).repeat_interleave(repeats, dim=3)
        return mask.flatten(2).unsqueeze(-1)

    def forward(self, clip: Tensor) -> Tensor:
        return self.cls_head(self.norm(self.encode(clip)[:, 0]))


def _variant(*published: Published, clip: Clip = CLIP, views: Views = VIEWS, **kwargs: Any) -> Variant:
    return Variant(
        build=MViT,
        clip=clip,
        views=views,
        published=published,
        recipes={"finetune": FINETUNE, "maskfeat": MASKFEAT} if "feature_dim" in kwargs else {"finetune": FINETUNE},
        unused_parameters=("mask_token", "decoder_pred.weight", "decoder_pred.bias"),
        namings=_mvit_names.NAMINGS,
        kwargs=kwargs,
        gradcam_layer=GRADCAM_LAYER,
    )


VARIANTS = {
    "b_16x4": _variant(
        Published(
            model="MViT-B, 16x4",
            dataset="kinetics400",
            source="arXiv 2104.11227",
            top1=78.4,
            top5=93.5,
            gflops=70.5,
            params_m=36.6,
            views="5x1",
            size=224,
            address="mvit/b_16x4",
        ),
    ),
    "b_16x4_maskfeat": _variant(
        Published(
            model="MViT-B, 16x4, MaskFeat's pre-training alone",
            dataset="kinetics400",
            source="github.com/mx-mark/VideoTransformer-pytorch README",
            **_releases.video_transformer("kinetics400", "1h3Q-267qV9kIcTT9Sct-zQzVvXljhyWW"),
        ),
        pool_at=(1, 3),
        feature_dim=216,
    ),
    "micro": _variant(
        views=Views(),
        clip=replace(CLIP, frames=8, stride=2, size=32, short_side=32),
        frames=8,
        size=32,
        dim=16,
        depth=4,
        widen_at=(1, 2),
        pool_at=(0, 1),
        kv_stride=4,
        feature_dim=216,
    ),
}
