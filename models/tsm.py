"""Temporal Shift Module (Lin et al., 2019; MMAction2's configurations and names, mit-han-lab's online form).

    models.build("tsm/r50_8f", num_classes=400)(clip)     # N 3 8 224 224 -> N 400

A 2D network on every frame, in which some channels are shifted between neighboring frames. The logits of the frames
are averaged.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..spec import Clip, Published, Recipe, Views
from . import _releases, _tsm_names
from ._conv import MobileNetV2, NonLocalKind, ResNet
from ._mobileone import MobileOne, MobileOneBlock
from ._shift import ClipShift, Shift, Stream
from ._variant import Variant

HEAD = "published with a head of 174 classes, for Kinetics too"
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class FrameHead(nn.Module):
    """Mean over space, dropout, one linear layer a frame: `(N T) C H W` -> `(N T) classes`."""

    def __init__(self, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc_cls = nn.Linear(channels, num_classes)
        nn.init.normal_(self.fc_cls.weight, std=0.001)
        nn.init.zeros_(self.fc_cls.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc_cls(self.dropout(x.mean(dim=(2, 3))))


class TSM(nn.Module):
    """`N 3 T H W` -> logits `N classes`, on any backbone that takes frames and a shift.

    1/`shift_div` of the channels are shifted each way, within groups of `segments` frames, 0 for the whole clip.
    `past_only` shifts from the past only (causal), which allows `stream`. Raises UserError if a clip is no multiple of
    `segments`.
    """

    def __init__(
        self,
        backbone: ResNet | MobileNetV2 | MobileOne,
        *,
        num_classes: int,
        dropout: float = 0.5,
        segments: int = 0,
        shift_div: int = 8,
        past_only: bool = False,
    ) -> None:
        super().__init__()
        self.segments = segments
        self.shift_div = shift_div
        self.past_only = past_only
        self.backbone = backbone
        self.cls_head = FrameHead(backbone.channels, num_classes, dropout)

    def forward(self, clip: Tensor) -> Tensor:
        frames = clip.shape[2]
        segments = self.segments or frames
        if frames % segments:
            raise UserError(
                f"tsm: {frames} frames are no multiple of the {segments} segments: change frames or `segments`"
            )
        images = clip.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        logits = self.frame_logits(images, ClipShift(segments, self.shift_div, self.past_only))
        return logits.unflatten(0, (-1, frames)).mean(dim=1)

    def frame_logits(self, images: Tensor, shift: Shift) -> Tensor:
        """Return the logits of every frame, not averaged: `(N T) 3 H W` -> `(N T) classes`."""
        return self.cls_head(self.backbone(images, shift))

    def stream(self) -> Stream:
        """Return a stream for online inference: `push` takes a frame `N 3 H W` and returns its logits `N classes`.

        They are those of this frame alone, not averaged over frames. The model should be in eval mode. Raises UserError
        unless the model is `past_only`.
        """
        if not self.past_only:
            raise UserError("this TSM shifts from future frames and cannot stream: use tsm/mobilenetv2_online")
        return Stream(self.frame_logits, self.shift_div)


def resnet(
    *,
    num_classes: int = 400,
    depth: Literal[50, 101] = 50,
    depths: tuple[int, int, int, int] | None = None,
    width: int = 64,
    non_local: NonLocalKind | None = None,
    dropout: float = 0.5,
) -> TSM:
    """Build TSM on a ResNet of `depth` layers, or with `depths` blocks a stage, its stem `width` channels wide.

    Raises UserError if `depth` is neither 50 nor 101 and `depths` is not given.
    """
    if depths is None and depth not in DEPTHS:
        raise UserError(f"tsm: depth={depth} is none of {', '.join(map(str, DEPTHS))}")
    backbone = ResNet(depths or DEPTHS[depth], width=width, non_local=non_local)
    return TSM(backbone, num_classes=num_classes, dropout=dropout)


def mobilenetv2(*, num_classes: int = 400, dropout: float = 0.5, online: bool = False) -> TSM:
    """Build TSM on MobileNetV2; `online` shifts channels from the past frame only (causal)."""
    return TSM(MobileNetV2(), num_classes=num_classes, dropout=dropout, past_only=online)


class MobileOneTSM(TSM):
    """TSM on MobileOne. After training, `reparameterize` fuses the branches of every block.

    `deploy` builds the fused form, for weights that were fused. By default, clips must be a multiple of 8 frames.
    """

    def __init__(
        self, *, num_classes: int = 400, dropout: float = 0.5, segments: int = 8, deploy: bool = False
    ) -> None:
        super().__init__(MobileOne(deploy=deploy), num_classes=num_classes, dropout=dropout, segments=segments)

    @torch.no_grad()
    def reparameterize(self) -> MobileOneTSM:
        """Fuse the branches in place; return the model, whose outputs in eval mode are the same."""
        assert isinstance(self.backbone, MobileOne)
        self.backbone.reparameterize()
        return self


def inflate(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return an image checkpoint's state dict, already in our names, for a video model.

    Non-local blocks are added with the model's own initialization. A MobileOne that was fused is split into branches
    again, unless the model is fused too.
    """
    fresh = {key: value for key, value in model.state_dict().items() if ".non_local." in key}
    for name, block in model.named_modules():
        fused = [f"{name}.branch_reparam.{leaf}" for leaf in ("weight", "bias")]
        if isinstance(block, MobileOneBlock) and block.branch_reparam is None and state.keys() >= set(fused):
            weight, bias = (state[key] for key in fused)
            state = {key: value for key, value in state.items() if key not in fused}
            state |= {f"{name}.{key}": value for key, value in block.split(weight, bias).items()}
    return fresh | state


MMACTION = "MMAction2 1.2, configs/recognition/tsm/README.md"
TEN_CROPS = Views(clips=1, crops=10)
THREE_CROPS = Views(clips=1, crops=3, size=256)
TWICE = Views(clips=2, crops=3, size=256)
SEGMENTS_8 = Clip(frames=8, sampling="segments")
SEGMENTS_16 = Clip(frames=16, sampling="segments")

# The classifier's learning rate is 5x (its bias's 10x); biases and batch norms are excluded from weight decay.
KINETICS = Recipe(
    epochs=50, batch=128, optimizer="sgd", lr=0.02, weight_decay=1e-4, schedule="step", milestones=(25, 45),
    schedule_by="epoch", warmup_epochs=5, warmup_by="epoch", clip_grad=20, crop="multi_scale",
    lr_rules=((r"fc_cls\.weight$", 5.0), (r"fc_cls\.bias$", 10.0)),
    decay_rules=((r"\.bias$", 0.0), (r"(bn|norm)\.weight$", 0.0)),
)  # fmt: skip
NON_LOCAL = replace(KINETICS, lr_rules=(*KINETICS.lr_rules, (r"(g|theta|phi)\.bias$", 2.0)))
KINETICS_100 = replace(KINETICS, epochs=100, warmup_epochs=10, milestones=(50, 90))
KINETICS_DENSE = replace(KINETICS, clip=Clip(frames=8, stride=8, sampling="dense_64"))
STH = replace(KINETICS, weight_decay=5e-4, flip_swaps=((86, 87), (93, 94), (166, 167)))
MOBILENET = replace(KINETICS_100, weight_decay=2e-5, warmup_epochs=0, milestones=(40, 80), auto_scale_lr=True)
MOBILEONE = replace(
    KINETICS,
    weight_decay=2e-5,
    batch=64,
    lr=0.01,
    auto_scale_lr=True,
    lr_rules=(*KINETICS.lr_rules, (r"\.se\..*\.bias$", 2.0)),
)


def _published(
    model: str, top1: float, top5: float, gflops: float, params: float, views: str, dataset: str, **more: Any
) -> Published:
    return Published(
        model=f"tsm/{model}", dataset=dataset, source=MMACTION, top1=top1, top5=top5, gflops=gflops, params_m=params,
        views=views, pretrain="ImageNet-1K", **{"size": 224, **_releases.tsm(model, dataset), **more},
    )  # fmt: skip


_variant = partial(
    Variant, namings=_tsm_names.NAMINGS, image_namings=_tsm_names.IMAGE_NAMINGS,
    objection=_tsm_names.objection, inflate=inflate, gradcam_layer="backbone",
)  # fmt: skip


def _non_local(kind: str, top1: float, top5: float, gflops: float, params: float) -> Variant:
    name = f"r50_nl_{kind}_8f"
    return _variant(
        build=resnet,
        kwargs={"non_local": kind},
        clip=SEGMENTS_8,
        views=TEN_CROPS,
        published=(_published(name, top1, top5, gflops, params, "1x10", "kinetics400"),),
        recipes={"kinetics400": NON_LOCAL},
    )


VARIANTS = {
    "r50_8f": _variant(
        build=resnet,
        clip=SEGMENTS_8,
        views=TEN_CROPS,
        published=(
            _published("r50_8f", 73.18, 90.56, 32.88, 23.87, "1x10", "kinetics400", gap=HEAD),
            _published("r50_8f", 62.72, 87.70, 32.88, 23.87, "2x3", "sthv2", gap=HEAD),
        ),
        recipes={
            "kinetics400": KINETICS,
            "kinetics400_100e": KINETICS_100,
            "kinetics400_dense": KINETICS_DENSE,
            "sthv2": STH,
        },
    ),
    "r50_16f": _variant(
        build=resnet,
        clip=SEGMENTS_16,
        views=TEN_CROPS,
        published=(
            _published("r50_16f", 75.12, 91.55, 65.75, 23.87, "1x10", "kinetics400", gap=HEAD),
            _published("r50_16f", 64.16, 88.61, 65.75, 23.87, "2x3", "sthv2", gap=HEAD),
        ),
        recipes={"kinetics400": KINETICS, "sthv2": STH},
    ),
    "r101_8f": _variant(
        build=resnet,
        kwargs={"depth": 101},
        clip=SEGMENTS_8,
        num_classes=174,
        views=TWICE,
        published=(_published("r101_8f", 63.70, 88.28, 62.66, 42.86, "2x3", "sthv2"),),
        recipes={"sthv2": STH},
    ),
    "r50_nl_dot_8f": _non_local("dot", 74.49, 91.15, 61.30, 31.68),
    "r50_nl_gauss_8f": _non_local("gauss", 73.66, 90.99, 59.06, 28.00),
    "r50_nl_embedded_8f": _non_local("embedded", 74.34, 91.23, 61.30, 31.68),
    "mobilenetv2_8f": _variant(
        build=mobilenetv2,
        clip=SEGMENTS_8,
        views=THREE_CROPS,
        published=(_published("mobilenetv2_8f", 68.71, 88.32, 3.269, 2.736, "1x3", "kinetics400", size=256),),
        recipes={"kinetics400": MOBILENET},
    ),
    "mobileone_s4_16f": _variant(
        build=MobileOneTSM,
        clip=SEGMENTS_16,
        views=THREE_CROPS,
        published=(_published("mobileone_s4_16f", 74.38, 91.71, 48.65, 13.72, "1x3", "kinetics400"),),
        recipes={"kinetics400": MOBILEONE},
    ),
    "mobilenetv2_online": _variant(
        build=mobilenetv2,
        kwargs={"online": True},
        clip=SEGMENTS_8,
        num_classes=27,
    ),
    "micro": _variant(
        build=resnet,
        kwargs={"depths": (1, 1, 1, 1), "width": 16, "dropout": 0.0},
        clip=Clip(frames=8, stride=2, size=32, short_side=32),
        num_classes=8,
    ),
}
