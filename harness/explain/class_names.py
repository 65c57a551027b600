"""The class names of a checkpoint, from an index of its data or from its training folder."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import UserError, unknown
from ...pipelines import splits as datasets
from ...pipelines.index import Index
from ..training.job import FILE
from ..training.run_folder import CLASSES
from ..training.saved_weights import run_folder_of


def names(count: int, checkpoint: Path | None, data: str | None, own: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the names of a classifier's `count` classes: `class 0`, `class 1`, … if none are known.

    `own` are those of the weights that come with the model, taken if there are as many, and no others are known;
    without a checkpoint these are the model's weights.

    `data` is an index, a folder of indexes or a built-in synthetic set; without it the names are those that `reelbench
    train` wrote beside the checkpoint, if it did. Raises UserError if `data`, or that file, has another number of
    classes.
    """
    source, found = _known(checkpoint, data)
    if source is None:
        return own if len(own) == count else tuple(f"class {number}" for number in range(count))
    if len(found) != count:
        head = checkpoint or "the model"
        raise UserError(
            f"{source} has {len(found)} classes, the head of {head} {count}: name the data that it was trained on"
        )
    return found


def several_labels(checkpoint: Path, data: str | None) -> bool:
    """Whether a video may have several labels: as in `data` if given, else as `reelbench train` trained it, if it did.

    Raises UserError if there is no such data.
    """
    if data is not None:
        return Index.load(datasets.resolve(data).test).multi_label
    trained = run_folder_of(checkpoint) / FILE
    return trained.is_file() and json.loads(trained.read_text())["recipe"]["objective"] == "multilabel"


def find(label: str, known: tuple[str, ...]) -> int:
    """Return the index of a class given by its name, or else by index, from 0. Raises UserError if there is none."""
    if label in known:
        return known.index(label)
    if label.isdecimal():
        if int(label) < len(known):
            return int(label)
        raise UserError(f"--label {label}: the classes are 0 to {len(known) - 1}")
    raise unknown("class", label, known)


def _known(checkpoint: Path | None, data: str | None) -> tuple[str | Path | None, tuple[str, ...]]:
    if data is not None:
        return data, Index.load(datasets.resolve(data).test).classes
    if checkpoint is None:
        return None, ()
    beside = run_folder_of(checkpoint) / CLASSES
    return (beside, tuple(json.loads(beside.read_text()))) if beside.is_file() else (None, ())
