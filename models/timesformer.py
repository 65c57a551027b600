"""TimeSformer: attention divided into time and space, joint, or over space only.

Bertasius et al., Is Space-Time Attention All You Need for Video Understanding?, 2021 (arXiv 2102.05095), in the form
of github.com/mx-mark/VideoTransformer-pytorch, whose weights load unchanged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..spec import Clip, Published, Recipe, Views
from . import Variant, _positions, _releases, _timesformer_names, _vit, _vit_init, _vit_names
from ._layers import init_transformer

ATTENTIONS = ("divided", "joint", "space")

CLIP = Clip(frames=8, stride=32, size=224, short_side=256, sampling="window", mean=_vit.MEAN, std=_vit.STD)
VIEWS = Views(clips=1, crops=3)
REPOSITORY = "github.com/mx-mark/VideoTransformer-pytorch README"
PAPER = "arXiv 2102.05095"
RELEASE = _releases.video_transformer(
    "kinetics600", "1-BSNROh35fiOIBcmtFNgWHEY_JC5UNDx", log="log_arch_timesformer_lr5e-3_bs8_nw4_open.txt"
)

KINETICS400 = Recipe(
    epochs=30,
    batch=64,
    optimizer="sgd",
    lr=0.00125,  # 0.005 at a batch of 256
    auto_scale_lr=True,
    nesterov=True,
    weight_decay=1e-4,
    weight_decay_end=0.05,  # the official script's default, whatever it starts from
    decay_rules=_vit.DECAY_RULES,
    schedule="cosine",
    schedule_by="epoch",
    warmup_epochs=5,
    warmup_ratio=0.2,
    warmup_by="epoch",
    min_lr=1e-6,
    color_jitter=0.4,
    precision="fp16",
)
KINETICS600 = replace(
    KINETICS400,
    epochs=15,
    lr=0.005,
    auto_scale_lr=False,
    weight_decay_end=None,
    decay_rules=((r"time_embed", 0.0), *_vit.DECAY_RULES),
    schedule="step",
    milestones=(5, 11),
    warmup_epochs=0,
    min_lr=0,
    crop="random",
    short_sides=(256, 320),
    color_jitter=0.0,
    clip=replace(CLIP, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)),
)


class TimeSformer(nn.Module):
    """Vision Transformer on the patches of all frames. `N 3 T H W` -> `N classes`.

    T must be `frames` (else UserError is raised), but may be any with space-only attention. Positions are resized if
    H or W is not `size`; incomplete patches are dropped.
    `init_std` initializes linear layers, `temporal_fc` too, by a truncated normal instead of torch's default,
    `time_std` the time embedding. From scratch, a narrow model leaves chance only if both are large.
    `copy_strategy` initializes the temporal layers from an image checkpoint: see `_vit_init.inflate`. `time_shift` adds
    the shifts of TPS, which have no parameters, to space-only attention: see `_time_shift`.
    """

    def __init__(
        self,
        num_classes: int = 400,
        *,
        attention: str = "divided",
        frames: int = 8,
        size: int = 224,
        patch: int = 16,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        drop_path: float = 0.1,
        copy_strategy: str = "repeat",
        time_shift: bool = False,
        init_std: float | None = None,
        time_std: float = 0.02,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        _vit.check_choice("timesformer", "attention", attention, ATTENTIONS)
        _vit.check_choice("timesformer", "copy_strategy", copy_strategy, _vit.COPY_STRATEGIES)
        _vit.check_multiple("timesformer", "size", size, patch)
        if time_shift and attention != "space":
            raise UserError(f"timesformer: time_shift is for attention='space', not '{attention}'")
        self.attention = attention
        self.frames = frames
        self.patch = patch
        self.grid = size // patch
        self.copy_strategy = copy_strategy
        self.checkpoint_activations = checkpoint_activations

        self.patch_embed = _vit.PatchEmbed(dim, patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid**2, dim))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if attention != "space":
            self.time_embed = nn.Parameter(torch.empty(1, frames, dim))
            nn.init.trunc_normal_(self.time_embed, std=time_std)
        shift_grid = (self.grid, self.grid) if time_shift else None
        self.blocks = _vit.make_blocks(depth, dim, heads, drop_path, attention == "divided", shift_grid)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.cls_head = _vit.make_head(dim, num_classes)
        if init_std is not None:
            init_transformer(self, init_std)

    def positions(self, height: int, width: int) -> Tensor:
        """Return the position embedding, `1 (1 + P) D`, resized to frames of `height` x `width` pixels."""
        rows, columns = height // self.patch, width // self.patch
        if rows == columns == self.grid:
            return self.pos_embed
        table = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        # The 0.1 keeps floor(grid * scale) from losing a row to rounding, and is part of the official scale.
        scale = ((rows + 0.1) / self.grid, (columns + 0.1) / self.grid)
        table = F.interpolate(table, scale_factor=scale, mode="bicubic")
        return torch.cat((self.pos_embed[:, :1], table.flatten(2).transpose(1, 2)), dim=1)

    def tokens(self, clip: Tensor) -> Tensor:
        """Return the first block's input: `N (1 + P T) D`, or `(N T) (1 + P) D` without temporal attention.

        Raises UserError if a clip has another number of frames than temporal attention was built for.
        """
        if clip.shape[2] != self.frames and self.attention != "space":
            raise UserError(f"timesformer: {clip.shape[2]} frames given, built for {self.frames}")
        patches = self.patch_embed(clip)
        positions = self.positions(*clip.shape[-2:])
        if self.attention == "space":
            return _vit.frame_tokens(patches, self.cls_token, positions)
        return _vit.clip_tokens(patches, self.cls_token, positions, self.time_embed)

    def forward(self, clip: Tensor) -> Tensor:
        batch, frames = clip.shape[0], clip.shape[2]
        x = _vit.encode(self.blocks, self.tokens(clip), frames, self.checkpoint_activations and self.training)
        cls = x[:, 0]
        if self.attention == "space":
            cls = cls.unflatten(0, (batch, frames)).mean(dim=1)
        return self.cls_head(self.norm(cls))

    def attention_map(self, clip: Tensor) -> Tensor:
        """Return the weights of the last block's spatial attention, `(N T) heads (1 + P) (1 + P)`.

        Row 0 holds the class token's attention, its first entry to itself. The model should be in eval mode. Raises
        UserError if attention is not divided.
        """
        if self.attention != "divided":
            raise UserError("attention maps are per frame: they need timesformer's divided attention")
        *blocks, last = self.blocks
        x = _vit.encode(blocks, self.tokens(clip), self.frames, checkpointed=False)
        assert isinstance(last, _vit.Block)
        time, space = last.attentions
        assert isinstance(space, _vit.SpaceAttention)
        return space.weights(time(x, self.frames), self.frames)


def attended(weights: Tensor, mass: float = 0.6) -> Tensor:
    """Threshold attention to the patches with the top `mass` of it: weights `... P` -> bool `... P`.

    The patches outside, those with the smallest weights, hold at most 1 - mass in total.
    """
    ascending, order = weights.sort(dim=-1)
    share = ascending.cumsum(dim=-1) / ascending.sum(dim=-1, keepdim=True)
    return torch.zeros_like(share, dtype=torch.bool).scatter(-1, order, share > 1 - mass)


def _variant(*published: Published, clip: Clip = CLIP, views: Views = VIEWS, **kwargs: Any) -> Variant:
    return Variant(
        build=TimeSformer,
        clip=clip,
        views=views,
        published=published,
        recipes={"kinetics400": KINETICS400, "kinetics600": KINETICS600},
        namings=_timesformer_names.NAMINGS,
        image_namings=_vit_names.IMAGE_NAMINGS,
        inflate=_vit_init.inflate,
        fit=_positions.fit,
        kwargs=kwargs,
        gradcam_layer=_vit.GRADCAM_LAYER,
    )


def _published(source: str, dataset: str, top1: float, top5: float, views: str, **more: Any) -> Published:
    return Published(
        model="TimeSformer-B",
        dataset=dataset,
        source=source,
        top1=top1,
        top5=top5,
        views=views,
        pretrain="ImageNet-21K",
        size=224,
        address="timesformer/b",
        **more,
    )


VARIANTS = {
    "b": _variant(
        _published(REPOSITORY, "kinetics600", 78.4, 93.6, "1x1", **RELEASE),
        _published(REPOSITORY + ", training log", "kinetics600", 79.1, 94.2, "1x3", **RELEASE),
        _published(PAPER, "kinetics400", 78.0, 93.7, "1x3", gflops=196.0, params_m=121.4),
        _published(PAPER, "kinetics600", 79.1, 94.4, "1x3", gflops=196.0, params_m=121.4),
    ),
    "b_space_only": _variant(attention="space"),
    "b_joint": _variant(attention="joint"),
    "micro": _variant(
        views=Views(),
        clip=replace(CLIP, stride=2, size=32, short_side=32),
        size=32,
        patch=8,
        dim=64,
        depth=2,
        heads=4,
        drop_path=0.0,
        init_std=0.2,
        time_std=1.0,
    ),
}
