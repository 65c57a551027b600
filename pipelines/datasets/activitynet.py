"""ActivityNet 1.3 (Heilbron et al. 2015) as clips: every annotated segment is one video, trimmed by its times.

ROOT/annotations/activity_net.v1-3.min.json     {database: {id: {subset, annotations: [{segment, label}]}}}
ROOT/videos/v_<id>.mp4                          or <id>.mp4
"""

from __future__ import annotations

from pathlib import Path

from .._video import Label, Span
from . import Listing, _find

SPLITS = ("train", "val")
SUBSETS = {"train": "training", "val": "validation"}


def index(root: Path, split: str) -> Listing:
    """List a split's segments; classes are the sorted names of all labels, of any split.

    Segments that are empty or start before 0 s are left out.
    """
    database = _find.read_json(_find.annotation(root, "activity_net.v1-3.min.json"))["database"]
    classes = tuple(sorted({note["label"] for record in database.values() for note in record["annotations"]}))
    numbers: dict[str, Label] = {name: number for number, name in enumerate(classes)}
    listed = [
        ((f"v_{name}", name), numbers[note["label"]], Span(start=note["segment"][0], end=note["segment"][1]))
        for name, record in sorted(database.items())
        if record["subset"] == SUBSETS[split]
        for note in record["annotations"]
        if 0 <= note["segment"][0] < note["segment"][1]
    ]
    entries, missing = _find.match(listed, _find.folder(root, "videos"))
    return Listing(entries=entries, classes=classes, root=root, missing=missing)
