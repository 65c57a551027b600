"""Image models of timm as video models: `timm:NAME` classifies each frame and averages the logits.

That is TSN (Wang et al., Temporal Segment Networks, ECCV 2016) with an average consensus: the baseline without any
exchange between frames, which a model of time must beat.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError, unknown
from ..spec import Clip
from . import _extras, _outline
from ._naming import Naming, State
from ._variant import Variant

FRAMES = 8


class TSN(nn.Module):
    """An image model on every frame, its logits averaged. `N 3 T H W` -> `N classes`, for any T."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, clip: Tensor) -> Tensor:
        frames = clip.transpose(1, 2).flatten(0, 1)  # (N T) 3 H W
        return self.model(frames).unflatten(0, (-1, clip.shape[2])).mean(1)


def names() -> list[str]:
    """Return the names of timm's models. Raises UserError if it is missing."""
    return _extras.load("timm", "timm").list_models()


def find(name: str) -> Variant:
    """Return the image model of this name. Raises UserError if timm is missing or has none."""
    timm = _extras.load("timm", "timm")
    if not name.startswith("hf_hub:") and not timm.is_model(name):
        raise unknown("model of timm", name, timm.list_models())
    found = timm.get_pretrained_cfg(name)
    if found is None:
        raise UserError(f"timm:{name} has no configuration, so its size is not known: name an architecture of timm's")
    clip = _clip(found)

    def build(num_classes: int = 400, *, weights: bool = False, size: int = clip.size) -> nn.Module:
        """Build a TSN; with `weights` from timm's own, of its cache or the Hub, all but another classifier."""
        sized = {"img_size": size} if size != clip.size else {}
        load = weights and not torch.empty(0).is_meta
        try:
            return TSN(timm.create_model(name, pretrained=load, num_classes=num_classes, **sized))
        except (OSError, RuntimeError) as error:
            if not load:
                raise
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"timm:{name}: its weights cannot be loaded ({reason}): give a file, --pretrained"
            ) from None

    head = _outline.heads(build)

    def inflate(model: nn.Module, state: State) -> State:
        return {key: value for key, value in _prefixed(state).items() if not key.startswith(head)}

    return Variant(
        build=build, clip=clip, num_classes=400, head=head, namings={"timm": Naming(convert=_prefixed)},
        inflate=inflate,
    )  # fmt: skip


def _prefixed(state: State) -> State:
    return {f"model.{key}": value for key, value in state.items()}


def _clip(found: Any) -> Clip:
    """Return frames from equal segments, each as timm prepares its images."""
    size = found.input_size[-1]
    mean, std = (tuple(255 * value for value in values) for values in (found.mean, found.std))
    short = max(size, math.floor(size / (found.crop_pct or 1)))
    return Clip(frames=FRAMES, sampling="segments", size=size, short_side=short, mean=mean, std=std)  # type: ignore[arg-type]
