"""One sub-folder per class: `ROOT/[SPLIT/]CLASS/…/video.mp4`. A folder of JPEG frames counts as a video.

`split="all"` reads ROOT itself. Classes are the sorted names of the sub-folders. A folder without sub-folders is one
class, named like the folder: enough to measure speed. Names that start with a dot are left out.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from . import Entry, Listing, _find

SPLITS: tuple[str, ...] = ()


def index(root: Path, split: str) -> Listing:
    """List every video below the class folders; videos beside them are left out.

    Raises UserError if there is no such folder, or it has neither sub-folders nor videos.
    """
    top = root if split == "all" else root / split
    if not top.is_dir():
        raise UserError(f"{top}: {'a file, not a' if top.exists() else 'no such'} folder")
    classes = tuple(sorted(p.name for p in top.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if not classes:
        return _unlabeled(top)
    entries = tuple(Entry(path, label) for label, name in enumerate(classes) for path in _find.videos_under(top / name))
    return Listing(entries=entries, classes=classes, root=top)


def _unlabeled(top: Path) -> Listing:
    videos = tuple(_find.videos_under(top))
    if not videos:
        raise UserError(f"{top}: no videos: the layout is {top.name}/CLASS/video.mp4")
    return Listing(entries=tuple(Entry(path, 0) for path in videos), classes=(top.resolve().name,), root=top)
