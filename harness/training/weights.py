"""Weights into a model, from any checkpoint, sharded ones too; what was loaded is said on standard error."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ... import address, models
from ...errors import UserError
from ...spec import Clip, read_json
from . import saved_weights
from .job import CLIP, FILE, Job

if TYPE_CHECKING:
    from ...models import Contents


def restore(
    model: str,
    checkpoint: Path,
    *,
    num_classes: int | None = None,
    clip: Clip | None = None,
    options: Mapping[str, Any] | None = None,
    raw: bool = False,
) -> nn.Module:
    """Build a model for a clip, in training mode, with a checkpoint's weights.

    Number of classes and options are the checkpoint's if they are not given; `raw` is as in `saved_weights.find`.
    Raises UserError if it cannot be read or does not fit.
    """
    contents = read(checkpoint, raw=raw)
    classes, probe = num_classes or models.count_classes(model, contents), models.probe_kind(contents)
    shown = clip if clip is not None or probe is None else clip_of(model, checkpoint)
    own = options or trained_with(model, checkpoint)
    network = models.build(model, num_classes=classes, clip=shown, probe=probe, **own)
    saved_weights.say(models.load_checkpoint(network, contents))
    return network


def check_own(model: str, classes: tuple[str, ...], data: Path | str, options: Mapping[str, Any]) -> None:
    """Raise UserError if a model comes without weights, or they are of other classes than those of the data."""
    variant, title = models.find(model), address.label(model)
    if not (variant.weights or options.get("weights")):
        raise UserError(f"{title} has no weights of its own here: give a checkpoint")
    known = variant.classes or classes
    pairs = enumerate(itertools.zip_longest(map(_plain, known), map(_plain, classes)))
    number = next((n for n, (there, here) in pairs if there != here), None)
    if number is not None:
        there, here = (f"'{names[number]}'" if number < len(names) else "no class" for names in (known, classes))
        raise UserError(
            f"{data} has other classes than the weights of {title}: class {number} is {here}, and was {there} in "
            "training: index the data with that class list, or fine-tune the model"
        )


def _plain(name: str) -> str:
    """Return a class's name as it is compared: libraries write `air drumming` where data sets have `air_drumming`."""
    return re.sub(r"[^\w]|_", "", name).lower()


def clip_of(model: str, checkpoint: Path | None) -> Clip:
    """Return the clip of the run in whose folder a checkpoint lies, else the model's own."""
    if checkpoint is None:
        return models.choose_clip(model, None)
    file = saved_weights.run_folder_of(checkpoint) / CLIP
    return read_json(Clip, file) if file.is_file() else models.choose_clip(model, None)


def trained_with(model: str, checkpoint: Path) -> Mapping[str, Any]:
    """Return the options of the run in whose folder a checkpoint of this model lies; none if it lies in no run's."""
    file = saved_weights.run_folder_of(checkpoint) / FILE
    job = Job.read(file) if file.is_file() else None
    return job.options if job is not None and job.model == address.absolute(model) else {}


def read(checkpoint: Path, *, raw: bool = False) -> Contents:
    """Read a checkpoint; of a training run's folder, the weights of `saved_weights.find`.

    Raises UserError if it cannot be read.
    """
    return models.read_checkpoint(saved_weights.find(checkpoint, raw=raw), title=str(checkpoint))
