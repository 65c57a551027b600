"""ViViT: tubelets, then a spatial and a temporal encoder (Model 2), joint (Model 1) or divided attention (Model 3).

Arnab et al., ViViT: A Video Vision Transformer, 2021 (arXiv 2103.15691), in the form of
github.com/mx-mark/VideoTransformer-pytorch, whose weights load unchanged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..spec import Clip, Published, Recipe, Views
from . import Variant, _positions, _releases, _timesformer_names, _vit, _vit_init, _vit_names
from ._layers import init_transformer

ATTENTIONS = ("factorized", "joint", "divided")

CLIP = Clip(frames=16, stride=16, size=224, short_side=256, sampling="window", mean=_vit.MEAN, std=_vit.STD)
VIEWS = Views(clips=4, crops=3)

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


class ViViT(nn.Module):
    """Vision Transformer on tubelets. `N 3 T H W` -> `N classes`.

    Raises UserError if the clip is not of `frames` x `size` x `size`. The factorized temporal encoder's input is the
    class token of the first tubelet slot and the mean patch of every slot. (The official code takes that class token
    from the wrong clip of a batch; with one clip they agree.) `copy_strategy` and `extend_strategy` control the
    inflation of image checkpoints: see `_vit_init.inflate`. `init_std` initializes linear layers by a truncated normal
    instead of torch's default.
    """

    def __init__(
        self,
        num_classes: int = 400,
        *,
        attention: str = "factorized",
        frames: int = 16,
        tubelet: int = 2,
        size: int = 224,
        patch: int = 16,
        dim: int = 768,
        depth: int = 12,
        temporal_depth: int = 4,
        heads: int = 12,
        drop_path: float = 0.1,
        copy_strategy: str = "repeat",
        extend_strategy: str = "temporal_avg",
        init_std: float | None = None,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        _vit.check_choice("vivit", "attention", attention, ATTENTIONS)
        _vit.check_choice("vivit", "copy_strategy", copy_strategy, _vit.COPY_STRATEGIES)
        _vit.check_choice("vivit", "extend_strategy", extend_strategy, _vit.EXTEND_STRATEGIES)
        _vit.check_multiple("vivit", "size", size, patch)
        _vit.check_multiple("vivit", "frames", frames, tubelet)
        self.attention = attention
        self.clip_shape = (frames, size, size)
        self.slots = frames // tubelet
        self.copy_strategy = copy_strategy
        self.extend_strategy = extend_strategy
        self.checkpoint_activations = checkpoint_activations

        factorized = attention == "factorized"
        self.patch_embed = _vit.PatchEmbed(dim, patch, tubelet)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (size // patch) ** 2, dim))
        self.time_embed = nn.Parameter(torch.empty(1, self.slots + factorized, dim))
        for table in (self.cls_token, self.pos_embed, self.time_embed):
            nn.init.trunc_normal_(table, std=0.02)
        self.blocks = _vit.make_blocks(depth, dim, heads, drop_path, divided=attention == "divided")
        if factorized:
            self.temporal_blocks = _vit.make_blocks(temporal_depth, dim, heads, drop_path)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.cls_head = _vit.make_head(dim, num_classes)
        if init_std is not None:
            init_transformer(self, init_std)

    def forward(self, clip: Tensor) -> Tensor:
        if tuple(clip.shape[2:]) != self.clip_shape:
            raise UserError(f"vivit: built for clips of T×H×W = {self.clip_shape}, got {tuple(clip.shape[2:])}")
        patches = self.patch_embed(clip)
        if self.attention == "factorized":
            x = self._encode_factorized(patches)
        else:
            tokens = _vit.clip_tokens(patches, self.cls_token, self.pos_embed, self.time_embed)
            x = self._encode(self.blocks, tokens)
        return self.cls_head(self.norm(x[:, 0]))

    def _encode_factorized(self, patches: Tensor) -> Tensor:
        x = self._encode(self.blocks, _vit.frame_tokens(patches, self.cls_token, self.pos_embed))
        x = x.unflatten(0, (patches.shape[0], self.slots))  # N T (1 + P) D
        slots = torch.cat((x[:, 0, :1], x[:, :, 1:].mean(dim=2)), dim=1)
        return self._encode(self.temporal_blocks, slots + self.time_embed)

    def _encode(self, blocks: nn.ModuleList, x: Tensor) -> Tensor:
        return _vit.encode(blocks, x, self.slots, self.checkpoint_activations and self.training)


def _variant(*published: Published, clip: Clip = CLIP, views: Views = VIEWS, **kwargs: Any) -> Variant:
    return Variant(
        build=ViViT,
        clip=clip,
        views=views,
        published=published,
        recipes={"kinetics400": KINETICS400},
        namings=_timesformer_names.VIVIT,
        image_namings=_vit_names.IMAGE_NAMINGS,
        inflate=_vit_init.inflate,
        fit=_positions.fit,
        kwargs=kwargs,
        gradcam_layer=_vit.GRADCAM_LAYER,
    )


VARIANTS = {
    "b": _variant(
        Published(
            model="ViViT-B",
            dataset="kinetics400",
            source="github.com/mx-mark/VideoTransformer-pytorch README",
            top1=75.2,
            top5=91.5,
            views="1x1",
            pretrain="ImageNet-21K",
            address="vivit/b",
            **_releases.video_transformer("kinetics400", "1-JVhSN3QHKUOLkXLWXWn5drdvKn0gPll"),
        ),
        Published(
            model="ViViT-B FE, 32 frames",
            dataset="kinetics400",
            source="arXiv 2103.15691",
            top1=78.8,
            params_m=115.1,
            pretrain="ImageNet-21K",
            address="vivit/b",
        ),
    ),
    "b_joint": _variant(attention="joint"),
    "b_divided": _variant(attention="divided"),
    "micro": _variant(
        views=Views(),
        clip=replace(CLIP, frames=8, stride=2, size=32, short_side=32),
        frames=8,
        size=32,
        patch=8,
        dim=64,
        depth=3,
        temporal_depth=2,
        heads=4,
        drop_path=0.0,
        init_std=0.12,
    ),
}
