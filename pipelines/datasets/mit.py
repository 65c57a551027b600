"""Moments in Time (Monfort et al. 2019).

ROOT/annotations/moments_categories.txt                  name,number
ROOT/annotations/{trainingSet,validationSet}.csv         class/clip.mp4,class,…
ROOT/videos/{training,validation}/<class>/clip.mp4       or rawframes/
"""

from __future__ import annotations

from pathlib import Path

from . import Listing, _find

SPLITS = ("train", "val")
FILES = {"train": ("trainingSet.csv", "training"), "val": ("validationSet.csv", "validation")}


def index(root: Path, split: str) -> Listing:
    """List a split; classes are in the order of their numbers."""
    classes = categories(_find.annotation(root, "moments_categories.txt"))
    numbers = {name: number for number, name in enumerate(classes)}
    name, part = FILES[split]
    file = _find.annotation(root, name)
    listed = [((_find.plain(row[0]),), _find.class_number(row[1], numbers, file), None) for row in _find.rows(file)]
    top = _find.folder(_find.folder(root, "videos", "rawframes"), part)
    entries, missing = _find.match(listed, top)
    return Listing(entries=entries, classes=classes, root=root, missing=missing)


def categories(file: Path) -> tuple[str, ...]:
    """Return the class names of `name,number` lines, sorted by number."""
    pairs = (line.rsplit(",", 1) for line in _find.lines(file))
    return tuple(name for _, name in sorted((_find.number(pair[-1], file), pair[0]) for pair in pairs))
