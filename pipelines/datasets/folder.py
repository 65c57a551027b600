"""A class per sub-folder: `ROOT/[SPLIT/]CLASS/…/video.mp4`. A folder of JPEG frames counts as a video.

`split="all"` takes ROOT itself. Classes are the sorted names of the sub-folders. A folder whose videos lie directly in
it is one class of its own name: enough to measure speed on.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from . import Entry, Listing, _find

SPLITS: tuple[str, ...] = ()


def index(root: Path, split: str) -> Listing:
    """List every video below the class folders."""
    top = root if split == "all" else root / split
    if not top.is_dir():
        raise UserError(f"{top}: {'a file, not a' if top.exists() else 'no such'} folder")
    classes = tuple(sorted(p.name for p in top.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if not classes:
        return _unlabelled(top)
    entries = tuple(Entry(path, label) for label, name in enumerate(classes) for path in _find.videos_under(top / name))
    return Listing(entries=entries, classes=classes, root=top)


def _unlabelled(top: Path) -> Listing:
    videos = tuple(_find.videos_under(top))
    if not videos:
        raise UserError(f"{top}: no videos: the layout is {top.name}/CLASS/video.mp4")
    return Listing(entries=tuple(Entry(path, 0) for path in videos), classes=(top.resolve().name,), root=top)
