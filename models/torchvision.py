"""The video models of torchvision: `torchvision:swin3d_t`, `…:s3d`, with their weights' clip and published accuracy."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from ..errors import UserError, unknown
from ..spec import Clip, Published, Views
from . import _extras, _outline
from ._variant import Variant

FRAME_RATE = 30  # of the videos that strides are for: torchvision's weights name a rate of frames instead
PRETRAIN = {"IMAGENET22K": "ImageNet-22K"}


def names() -> list[str]:
    """Return the names of torchvision's video models. Raises UserError if it is missing."""
    library = _extras.load("torchvision", "torchvision").models
    return library.list_models(module=library.video)


def find(name: str) -> Variant:
    """Return the video model of this name. Raises UserError if torchvision is missing or has none."""
    library = _extras.load("torchvision", "torchvision").models
    if name not in names():
        raise unknown("video model of torchvision", name, names())
    every = library.get_model_weights(name)
    clip, clips = _test(every.DEFAULT)

    def build(num_classes: int = 400, *, weights: str | None = None) -> nn.Module:
        model = library.get_model(name, weights=None, num_classes=num_classes)
        if weights is not None and not torch.empty(0).is_meta:
            _load(model, _named(name, every, weights))
        return model

    return Variant(
        build=build, clip=clip, views=Views(clips=clips), head=_outline.heads(build),
        classes=tuple(every.DEFAULT.meta["categories"]),
        published=tuple(_published(name, weights) for weights in every),
    )  # fmt: skip


def _named(name: str, every: Any, weights: str) -> Any:
    if weights not in ("DEFAULT", *every.__members__):
        raise unknown(f"weights of torchvision:{name}", weights, ("DEFAULT", *every.__members__))
    return every[weights]


def _load(model: nn.Module, weights: Any) -> None:
    """Load published weights, all but a classifier of another number of classes."""
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{weights.url} cannot be had ({error}): download it, and give it as --checkpoint") from None
    own = model.state_dict()
    model.load_state_dict({**own, **{key: value for key, value in state.items() if own[key].shape == value.shape}})


def _test(weights: Any) -> tuple[Clip, int]:
    """Return the clip that weights were tested with, and the number of clips of a video.

    The pixels are as in their transform; that of the ResNets also squeezes frames to 171×128, which is left out. Frames
    are told in the documentation of their accuracy alone.
    """
    shown, said = weights.transforms(), weights.meta["_docs"]
    frames = re.search(r"clip_len=(\d+)", said)
    rate = re.search(r"frame_rate=([\d.]+)", said)
    clips = re.search(r"clips_per_video=(\d+)", said)
    mean, std = (tuple(255 * value for value in values) for values in (shown.mean, shown.std))
    clip = Clip(
        frames=int(frames[1]) if frames else 16, stride=round(FRAME_RATE / float(rate[1])) if rate else 2,
        size=shown.crop_size[0], short_side=min(shown.resize_size), mean=mean, std=std,  # type: ignore[arg-type]
    )  # fmt: skip
    return clip, int(clips[1]) if clips else 1


def _published(name: str, weights: Any) -> Published:
    """Return the accuracy of weights; their GFLOPs are of other clips than those, and so are left out."""
    (accuracy,) = weights.meta["_metrics"].values()
    _, clips = _test(weights)
    return Published(
        model=f"torchvision:{name}", dataset="kinetics400", source=f"torchvision, {weights.name}",
        top1=accuracy["acc@1"], top5=accuracy["acc@5"], params_m=weights.meta["num_params"] / 1e6,
        views=str(Views(clips=clips)),
        pretrain=next((text for sign, text in PRETRAIN.items() if sign in weights.name), None),
    )  # fmt: skip
