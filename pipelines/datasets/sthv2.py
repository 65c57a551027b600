"""Something-Something v2 (Mahdisoltani et al. 2018), 174 classes.

ROOT/annotations/something-something-v2-{labels,train,validation}.json     {name: number}; [{id, template}]
  or labels.json, train.json, validation.json, as the later download names them
ROOT/videos/<id>.webm                                                      or .mp4, rawframes/<id>/

One class per video; metrics top-1 and top-5. A flip swaps the classes that differ by left and right: 86 and 87, 93 and
94, 166 and 167.
"""

from __future__ import annotations

from pathlib import Path

from . import Listing, _find

SPLITS = ("train", "val", "test")
FILES = {"train": "train", "val": "validation", "test": "test"}
PREFIX = "something-something-v2-"


def index(root: Path, split: str) -> Listing:
    """List a split; a record's template without its brackets is the class. A test split has no labels: -1."""
    labels = _find.read_json(_find.annotation(root, f"{PREFIX}labels.json", "labels.json"))
    classes = tuple(sorted(labels, key=lambda name: int(labels[name])))
    numbers = {name: number for number, name in enumerate(classes)}
    file = _find.annotation(root, f"{PREFIX}{FILES[split]}.json", f"{FILES[split]}.json")
    listed = [((str(record["id"]),), _label(record, numbers, file), None) for record in _find.read_json(file)]
    entries, missing = _find.match(listed, _find.folder(root, "videos", "rawframes", "20bn-something-something-v2"))
    return Listing(entries=entries, classes=classes, root=root, missing=missing)


def _label(record: dict[str, str], numbers: dict[str, int], file: Path) -> int:
    if "template" not in record:
        return -1
    return _find.class_number(record["template"].replace("[", "").replace("]", ""), numbers, file)
