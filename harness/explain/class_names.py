"""The names of a checkpoint's classes, from an index, or from the folder that its training left."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import UserError, unknown
from ...pipelines import splits as datasets
from ...pipelines.index import Index
from ..training.run_folder import CLASSES


def names(count: int, checkpoint: Path, data: str | None) -> tuple[str, ...]:
    """Return what to call each of a head's `count` classes: `class 3` where no name is known.

    `data` is what `data.resolve` knows: an index, a folder of them, an embedded set. Without it the names are those
    that `reelbench train` wrote beside the checkpoint. A data set of another number of classes is a `UserError`.
    """
    source, found = _known(checkpoint, data)
    if source is None:
        return tuple(f"class {number}" for number in range(count))
    if len(found) != count:
        raise UserError(
            f"{source} has {len(found)} classes, the head of {checkpoint} {count}: name the data that it was trained on"
        )
    return found


def find(label: str, known: tuple[str, ...]) -> int:
    """Return the number of a class that is given by its name or its number; another is a `UserError`."""
    if label in known:
        return known.index(label)
    if label.isdecimal():
        if int(label) < len(known):
            return int(label)
        raise UserError(f"--label {label}: the classes are 0 to {len(known) - 1}")
    raise unknown("class", label, known)


def _known(checkpoint: Path, data: str | None) -> tuple[str | Path | None, tuple[str, ...]]:
    if data is not None:
        return data, Index.load(datasets.resolve(data).test).classes
    beside = checkpoint.parent / CLASSES
    return (beside, tuple(json.loads(beside.read_text()))) if beside.is_file() else (None, ())
