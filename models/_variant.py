"""The entry of the zoo that an architecture's file declares for each of its models."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..spec import Clip, Published, Recipe, Views
from ._naming import Naming


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One entry of the zoo.

    - `build(num_classes=..., **overrides)` returns the module with the architecture's own initialization; `kwargs` are
      the arguments that make this variant of it.
    - `clip` is the published input (`None`: the user gives one), `views` the published test protocol.
    - `unused_parameters` are those that get no gradient in training, by design.
    - `namings` are those of video checkpoints of other origins, `image_namings` those of 2D image checkpoints, by the
      name that users see. All are tried; the one that covers most of the model's tensors is taken.
    - `objection(names, facts)` returns what a video checkpoint is, such as `a TSN without shift`, if it is of another
      network whose tensors fit this one, by its names without wrappers and the metadata beside them; else `None`.
    - `inflate(model, state)` turns a 2D image checkpoint, after its naming's `convert`, into this model's state dict by
      the official rule, without the classifier, whose parameter names start with `head`. `None`: there is no such rule.
    - `fit(model, state)` resizes what a video checkpoint of another clip length or image size has in another size, such
      as positions. `None`: such a checkpoint does not fit.
    - `weights`: whether `build` loads weights that come with the model; `classes` are the names of their classes, empty
      if they are not known.
    - `gradcam_layer` and `attention_stage` are dotted paths, where `-1` is the last of a list: the layer that Grad-CAM
      explains by default (`None`: no default), and the stage that attention maps are taken from (`None`: the whole
      model).
    """

    build: Callable[..., nn.Module]
    clip: Clip | None
    num_classes: int = 400
    views: Views = Views()
    published: tuple[Published, ...] = ()
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    unused_parameters: tuple[str, ...] = ()
    head: str | tuple[str, ...] = "cls_head."
    objection: Callable[[Collection[str], Mapping[str, Any]], str | None] | None = None
    namings: Mapping[str, Naming] = field(default_factory=dict)
    image_namings: Mapping[str, Naming] = field(default_factory=dict)
    inflate: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]] | None = None
    fit: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    gradcam_layer: str | None = None
    attention_stage: str | None = None
    weights: bool = False
    classes: tuple[str, ...] = ()
