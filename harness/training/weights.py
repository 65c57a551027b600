"""Weights into a model, from any checkpoint, sharded ones too; what was loaded is said on standard error."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ... import models
from . import saved_weights

if TYPE_CHECKING:
    from ...models import Contents, Loaded


def restore(model: str, checkpoint: Path, *, num_classes: int | None = None, raw: bool = False) -> nn.Module:
    """Build a model, in training mode, with a checkpoint's weights, and its number of classes unless one is given.

    `raw` is as in `saved_weights.find`. Raises UserError if the checkpoint cannot be read or does not fit.
    """
    contents = read(checkpoint, raw=raw)
    network = models.build(model, num_classes=num_classes or models.count_classes(model, contents))
    say(models.load_checkpoint(network, contents))
    return network


def read(checkpoint: Path, *, raw: bool = False) -> Contents:
    """Read a checkpoint; of a training run's folder, the weights of `saved_weights.find`.

    Raises UserError if it cannot be read.
    """
    return models.read_checkpoint(saved_weights.find(checkpoint, raw=raw), title=str(checkpoint))


def say(loaded: Loaded) -> None:
    """Print what was loaded to standard error, in the first of several ranks alone."""
    if os.environ.get("RANK", "0") == "0":
        print(loaded, file=sys.stderr)
