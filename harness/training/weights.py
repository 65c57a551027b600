"""Weights into a model, from any checkpoint, sharded ones too; what was loaded is said on standard error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ... import address, models
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
    classes = num_classes or models.count_classes(model, contents)
    network = models.build(model, num_classes=classes, clip=clip, **(options or trained_with(model, checkpoint)))
    saved_weights.say(models.load_checkpoint(network, contents))
    return network


def clip_of(model: str, checkpoint: Path) -> Clip:
    """Return the clip of the run in whose folder a checkpoint lies, else the model's own."""
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
