"""Weights into a model, from any checkpoint, sharded ones too; what was loaded is said on standard error."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ... import models
from . import engine

if TYPE_CHECKING:
    from ...models import Contents, Loaded


def restore(model: str, checkpoint: Path, *, num_classes: int | None = None) -> nn.Module:
    """Build a model, in training mode, with a checkpoint's weights, and its number of classes unless one is given.

    Raises UserError if the checkpoint cannot be read or does not fit.
    """
    contents = read(checkpoint)
    network = models.build(model, num_classes=num_classes or models.count_classes(model, contents))
    say(models.load_checkpoint(network, contents))
    return network


def read(checkpoint: Path) -> Contents:
    """Read a checkpoint; the shards of a ZeRO 3 folder are consolidated. Raises UserError if it cannot be read."""
    joined = engine.joined_weights(checkpoint) if checkpoint.is_dir() else None
    return models.read_checkpoint(checkpoint if joined is None else joined, title=str(checkpoint))


def say(loaded: Loaded) -> None:
    """Print what was loaded to standard error, in the first of several ranks alone."""
    if os.environ.get("RANK", "0") == "0":
        print(loaded, file=sys.stderr)
