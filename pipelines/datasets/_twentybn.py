"""The layout of Something-Something v1 and Jester: a labels CSV, and `id;class name` for each split."""

from __future__ import annotations

from pathlib import Path

from . import Listing, _find

FILES = {"train": "train", "val": "validation", "test": "test"}


def listing(root: Path, split: str, prefix: str) -> Listing:
    """List a split of `prefix`, whose class order is that of the labels file. Rows without a class have label -1."""
    classes = tuple(_find.lines(_find.annotation(root, f"{prefix}-labels.csv")))
    numbers = {name: number for number, name in enumerate(classes)}
    file = _find.annotation(root, f"{prefix}-{FILES[split]}.csv")
    listed = [
        ((row[0],), _find.class_number(row[1], numbers, file) if len(row) > 1 else -1, None)
        for row in _find.rows(file, ";")
    ]
    entries, missing = _find.match(listed, _find.folder(root, "rawframes", "videos", f"20bn-{prefix}"))
    return Listing(entries=entries, classes=classes, root=root, missing=missing)
