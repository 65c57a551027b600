"""A class per sub-folder: `ROOT/[SPLIT/]CLASS/…/video.mp4`. A folder of JPEG frames counts as a video.

`split="all"` takes ROOT itself. Classes are the sorted names of the sub-folders.
"""

from __future__ import annotations

from pathlib import Path

from ...harness.errors import UserError
from . import Entry, Listing, _find

SPLITS: tuple[str, ...] = ()


def index(root: Path, split: str) -> Listing:
    """List every video below the class folders."""
    top = root if split == "all" else root / split
    if not top.is_dir():
        raise UserError(f"{top}: no such folder")
    classes = tuple(sorted(p.name for p in top.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if not classes:
        raise UserError(f"{top}: no class folders: the layout is {top.name}/CLASS/video.mp4")
    entries = tuple(Entry(path, label) for label, name in enumerate(classes) for path in _find.videos_under(top / name))
    return Listing(entries=entries, classes=classes, root=top)
