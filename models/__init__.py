"""The zoo. `models.build("video_swin/t", num_classes=400)` returns an ordinary `nn.Module`.

A name is an address (see `address`): `video_swin/t` is the entry `t` of `VARIANTS` in `models/video_swin.py`, and
`path/mine.py/net` that of a file of one's own. Every model takes a float clip `N 3 T H W`, normalized by the mean and
deviation of its `Clip`, and returns logits `N classes`. To add an architecture, write one file that ends in `VARIANTS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .. import address
from ..errors import UserError
from ..spec import Clip, ProbeKind, Recipe, Views
from . import _options, _outline
from ._addresses import families, find, library_names, names
from ._variant import Variant

if TYPE_CHECKING:
    from ._checkpoints import Loaded
    from ._probe import Probed
    from ._state_dict import Contents, Source

__all__ = [
    "Contents", "Loaded", "Variant", "add_probe", "build", "check_clip", "check_probe", "choose_clip", "count_classes",
    "families", "find", "init_from", "library_names", "load_checkpoint", "load_pretrained", "names", "option_types",
    "outline", "probe_kind", "read_checkpoint", "reparameterize", "save",
]  # fmt: skip


def build(
    name: str,
    *,
    num_classes: int | None = None,
    checkpoint: Source | None = None,
    pretrained: Source | None = None,
    clip: Clip | None = None,
    probe: ProbeKind | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build a model by its address, in training mode; without a checkpoint its weights are random.

    `num_classes` is by default the variant's, not the checkpoint's. `checkpoint` is a video checkpoint, loaded strictly
    as by `load_checkpoint`; `pretrained` is a 2D image checkpoint, inflated by the architecture's official rule, and
    leaves the classifier random. With a `probe`, or a checkpoint of one, the network is a frozen encoder with a probe
    (see `_probe`). `overrides` are arguments of the architecture's constructor; those for the length and
    size of its input follow from `clip`, where it has them. Raises UserError if the address or an argument is unknown,
    or a checkpoint does not fit.
    """
    variant = find(name)
    _options.check(name, variant, overrides)
    arguments = {**variant.kwargs, **_options.for_clip(variant, overrides, clip)}
    model = variant.build(num_classes=num_classes or variant.num_classes, **arguments)
    model.variant_name = address.absolute(name)  # type: ignore[assignment]
    if pretrained is not None:
        load_pretrained(model, pretrained)
    if checkpoint is not None:
        checkpoint = read_checkpoint(checkpoint)
        probe = probe or probe_kind(checkpoint)
    if probe is not None:
        model = add_probe(model, probe, num_classes=num_classes or variant.num_classes, clip=clip)
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    return model


def add_probe(network: nn.Module, kind: ProbeKind, *, num_classes: int, clip: Clip | None = None) -> Probed:
    """Freeze a network that `build` made, put a new probe in place of its classifier, and return the whole.

    `clip` is by default the model's own. Raises UserError if there is no such probe, or the network has no features
    for it.
    """
    from . import _probe

    name = str(network.variant_name)
    shown = choose_clip(name, None, clip)
    return _probe.attach(network, find(name), kind, num_classes=num_classes, clip=shown)


def check_probe(name: str, kind: ProbeKind, clip: Clip, options: Mapping[str, Any] | None = None) -> None:
    """Look for the features of a model for a probe, without computing them. Raises UserError if there are none."""
    outline(name, num_classes=2, clip=clip, probe=kind, **(options or {}))


def probe_kind(source: Source) -> ProbeKind | None:
    """Return the kind of probe whose checkpoint this is, None if it is that of a whole model."""
    from . import _probe

    return _probe.kind_of(read_checkpoint(source).candidates[0].state)


def outline(name: str, **arguments: Any) -> nn.Module:
    """Build a model, as `build` does, for its shapes alone: on the meta device, unless its constructor needs values."""
    return _outline.on_meta(lambda: build(name, **arguments))


def load_checkpoint(model: nn.Module, source: Source) -> Loaded:
    """Load a video checkpoint into a model that `build` made, strictly; return what was loaded.

    `source` is a file of torch's or safetensors, a DeepSpeed folder (ZeRO 3's must be consolidated first), a folder in
    transformers' layout, or a state dict, with our parameter names or those of `Variant.namings`; averaged weights in
    it are taken if a `#` and their container's name follow the path. Raises UserError, which names them, if keys are
    missing (`num_batches_tracked` may be), unexpected or mis-shaped, or the file is of another network.
    """
    from . import _checkpoints

    return _checkpoints.load(model, find(str(model.variant_name)), source)


def load_pretrained(model: nn.Module, source: Source) -> Loaded:
    """Inflate a 2D image checkpoint into a model that `build` made, all but the classifier; return what was loaded.

    `source` is as in `load_checkpoint`, or JAX's .npz, with names of `Variant.image_namings`. Raises UserError if the
    architecture has no rule for it, or it does not fit.
    """
    from . import _checkpoints

    return _checkpoints.load_pretrained(model, find(str(model.variant_name)), source)


def init_from(model: nn.Module, source: Source, *, partial: bool = False) -> Loaded:
    """Initialize fine-tuning from a video checkpoint of another data set, into a model that `build` made.

    Returns what was loaded. The classifier keeps its own weights if the number of classes differs. `source` is as in
    `load_checkpoint`. Raises UserError if it has less than 95 % of the backbone's parameters, or with `partial`, none.
    """
    from . import _checkpoints

    return _checkpoints.init_from(model, find(str(model.variant_name)), source, partial=partial)


def read_checkpoint(source: Source, *, title: str | None = None) -> Contents:
    """Read a checkpoint once, to be given to several of the functions here; messages call it `title` or by its path.

    `source` is as in `load_checkpoint`. Raises UserError if it cannot be read.
    """
    from . import _state_dict

    return _state_dict.read(source, title)


def save(model: nn.Module, path: Path) -> None:
    """Write a model's weights as safetensors, in our naming, for `load_checkpoint`."""
    from safetensors.torch import save_model

    from . import _checkpoints

    save_model(model, str(path), metadata=_checkpoints.metadata(model))


def reparameterize(model: nn.Module) -> None:
    """Fuse the branches of a MobileOne in place. Raises UserError if the model, built by `build`, has none."""
    fuse = getattr(model, "reparameterize", None)
    if fuse is None:
        raise UserError(f"{model.variant_name} has no branches to fuse: --reparameterize is for MobileOne")
    fuse()


def count_classes(name: str, source: Source) -> int | None:
    """Return the number of classes of a video checkpoint of the model at an address, None if it has no classifier.

    `source` is as in `load_checkpoint`, and so are the errors of reading it.
    """
    from . import _checkpoints, _probe

    contents = read_checkpoint(source)
    if probe_kind(contents) is not None:
        return len(contents.candidates[0].state[f"{_probe.PROBE}linear.weight"])
    return _checkpoints.classes(outline(name), find(name), contents)


def choose_clip(
    model: str, recipe: Recipe | None, given: Clip | None = None, *, changes: Mapping[str, Any] | None = None
) -> Clip:
    """Return the input clip to use: `given`, else the recipe's, else the model's published one; with `changes`.

    These replace fields. Raises UserError if there is no clip, unless `changes` make one.
    """
    base = given or (recipe and recipe.clip) or find(model).clip
    if base is not None:
        return dataclasses.replace(base, **(changes or {}))
    if changes and "frames" in changes:
        return Clip(**changes)
    raise UserError(
        f"{address.label(model)} has no clip of its own: give --frames and --size, a case's clip=Clip(frames=…), or "
        f"CLIP = reelbench.spec.Clip(frames=…) beside it in {address.parse(model).place}"
    )


def choose_views(model: str, given: str | None) -> Views:
    """Return the views to test: the model's protocol, with the clips and crops of `given`, such as `4x3`.

    Raises UserError if there is no such model, or `given` is malformed.
    """
    own = find(model).views
    if given is None:
        return own
    views = Views.parse(given)
    return dataclasses.replace(own, clips=views.clips, crops=views.crops)


def check_clip(model: str, clip: Clip, options: Mapping[str, Any] | None = None) -> None:
    """Run the model, built for it, on a clip of this shape on the meta device.

    Raises UserError if it has no such options, cannot take the clip, or returns anything but `N classes`.
    """
    variant = find(model)
    _options.check(model, variant, options or {})
    reason = _options.refusal(variant, _options.for_clip(variant, options or {}, clip), clip)
    if reason is not None:
        own = variant.clip
        known = "" if own is None else f" (its own: {own.frames} of {own.size}x{own.size})"
        raise UserError(
            f"{address.label(model)} cannot take {clip.frames} frames of {clip.size}x{clip.size}{known}: {reason}"
        )


def option_types(model: str) -> dict[str, Any]:
    """Return the names and types of a model's options: the arguments of its constructor that `build` takes."""
    return _options.types(find(model))
