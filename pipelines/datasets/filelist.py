"""File lists of other frameworks. ROOT is the text file; paths are relative to its folder.

Paths may also be relative to `videos` or `rawframes` in that folder. One line per video:

    path label [label…]             MMAction2 and Video Swin, videos; several labels make the set multi-label
    path frames label               MMAction2, raw frames, if `path` is a folder
    path offset frames label        the same with an offset: `split="offset"`
    path<TAB>class name             VideoTransformer

Offsets count frames from 0. Class names come from the lines of a `classes.txt` beside the list, else from the list
itself. Empty lines and comments (`# …`, with a blank after the `#`) are dropped.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import UserError
from .._video import Label, Span
from . import Entry, Listing, _find
from .csv import class_numbers, numbered

SPLITS = ("all", "offset")
LABEL = re.compile(r"-?\d+")
LINE = re.compile(r"(.+?)((?:\s+-?\d+)*)", re.DOTALL)


def index(root: Path, split: str) -> Listing:
    """Read a list. Without a label a video has -1, or () in a multi-label set.

    Raises UserError if a folder of frames lacks its numbers, or a label is no class.
    """
    return read(root, [root.parent / name for name in ("", "videos", "rawframes")], offset=split == "offset")


def read(root: Path, tops: list[Path], *, classes: tuple[str, ...] = (), offset: bool = False) -> Listing:
    """Read the list `root`. Paths are relative to one of the folders `tops`, the first where the path exists.

    `classes` are the class names if known, else as the module says. With `offset`, folders of frames have one.
    """
    rows = [_row(line, tops, root, offset) for line in _find.lines(root, comments=True)]
    if not any(labels for _, _, labels, _ in rows) and any("," in name for name, *_ in rows):
        raise UserError(
            f"{root}: commas between path and label: `data index csv` reads those, under the header path,label"
        )
    multi_label = any(len(labels) > 1 for _, _, labels, _ in rows)
    if classes:
        numbers = numbered(classes)
    else:
        classes, numbers = class_numbers(root, {word for _, _, labels, _ in rows for word in labels})
    entries: list[Entry] = []
    missing: list[str] = []
    for name, path, words, span in rows:
        labels = tuple(_find.class_number(word, numbers, root) for word in words)
        label: Label = labels if multi_label else labels[0] if labels else -1
        if path is None:
            missing.append(name)
        else:
            entries.append(Entry(path, label, span))
    return Listing(
        entries=tuple(entries),
        classes=classes,
        root=root.parent,
        missing=tuple(missing),
        multi_label=multi_label,
        metric="map" if multi_label else "topk",
    )


def _row(line: str, tops: list[Path], root: Path, offset: bool) -> tuple[str, Path | None, list[str], Span | None]:
    """Split a line into its path as listed, the path on the disk, its labels as text, and its span."""
    name, tab, class_name = line.partition("\t")
    if tab and not LABEL.fullmatch(class_name.strip()):
        return name, _find.existing(name, tops), [class_name.strip()], None
    found = LINE.fullmatch(line)
    assert found is not None
    name, numbers = found[1], found[2].split()
    path = _find.existing(name, tops)
    frames = path is not None and path.is_dir() or path is None and not Path(name).suffix
    if not frames:
        return name, path, numbers, None
    if len(numbers) < (3 if offset else 2):
        raise UserError(f"{root}: '{line}': a folder of frames needs {'offset, ' * offset}frames and label")
    first = int(numbers.pop(0)) if offset else 0
    count = int(numbers.pop(0))
    if first < 0 or count < 1:
        raise UserError(f"{root}: '{line}': {count} frames from {first} on are none")
    return name, path, numbers, Span(start=first, end=first + count, unit="frames")
