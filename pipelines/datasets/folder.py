"""One sub-folder per class: `ROOT/[SPLIT/]CLASS/…/video.mp4`. A folder of frames counts as a video.

`split="all"` reads ROOT itself. Classes are the sorted names of the sub-folders. A folder without sub-folders is one
class, named like the folder: enough to measure speed. Hidden folders, and those that systems make (`@eaDir`,
`__MACOSX`, `lost+found`, …), are left out; of the other files that are no videos the number is told.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from . import Entry, Listing, _walk

SPLITS: tuple[str, ...] = ()
SPLIT_NAMES = frozenset(("train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"))


def index(root: Path, split: str) -> Listing:
    """List every video below the class folders; videos beside them are left out.

    Raises UserError if there is no such folder, it has neither sub-folders nor videos, or its sub-folders are splits.
    """
    top = root if split == "all" else root / split
    if not top.is_dir():
        raise UserError(f"{top}: {'a file, not a' if top.exists() else 'no such'} folder")
    classes = tuple(sorted(path.name for path in top.iterdir() if path.is_dir() and _walk.visible(path.name)))
    if not classes:
        return _unlabeled(top)
    if {name.lower() for name in classes} <= SPLIT_NAMES:
        raise UserError(f"{top}: {', '.join(classes)} are splits and no classes: choose one with --split {classes[0]}")
    found = _walk.Found()
    entries: list[Entry] = []
    for label, name in enumerate(classes):
        first = len(found.videos)
        entries += [Entry(path, label) for path in _walk.walk(top / name, found).videos[first:]]
    for path in top.iterdir():
        if path.is_file() and _walk.visible(path.name):
            found.passed_over[f"{path.suffix} beside the class folders"] += 1
    return _listing(entries, classes, top, found)


def _unlabeled(top: Path) -> Listing:
    found = _walk.walk(top)
    if not found.videos:
        raise UserError(
            f"{top}: no videos: the layout is {top.name}/CLASS/video.mp4{'; ' * bool(found.note())}{found.note()}"
        )
    return _listing([Entry(path, 0) for path in found.videos], (top.resolve().name,), top, found)


def _listing(entries: list[Entry], classes: tuple[str, ...], top: Path, found: _walk.Found) -> Listing:
    notes = (found.note(),) if found.note() else ()
    return Listing(entries=tuple(entries), classes=classes, root=top, skipped=tuple(found.skipped), notes=notes)
