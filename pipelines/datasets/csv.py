"""A table: `path,label[,start,end]` with that header; paths relative to the file, times in seconds.

ROOT is the CSV file, or a folder that holds `SPLIT.csv`. Labels are numbers or names; several are joined by `|`, and
then the set is multi-label. Names are numbered in sorted order, or by the lines of a `classes.txt` beside the file.
"""

from __future__ import annotations

import csv
from pathlib import Path

from ...harness.errors import UserError
from .._video import Label, Span
from . import Entry, Listing, _find

SPLITS: tuple[str, ...] = ()


def index(root: Path, split: str) -> Listing:
    """Read the table; a missing column, an empty label or an end before its start is a `UserError`."""
    file = root / f"{split}.csv" if root.is_dir() else root
    table = csv.DictReader(_find.lines(file))
    columns = tuple(table.fieldnames or ())
    if not {"path", "label"} <= set(columns):
        raise UserError(f"{file}: columns {', '.join(columns) or 'none'}: the header must name path and label")
    records = list(table)
    words = [tuple(filter(None, (record["label"] or "").split("|"))) for record in records]
    multi_label = any(len(labels) > 1 for labels in words)
    classes = class_names(file.parent, {word for labels in words for word in labels})
    numbers = {**{str(i): i for i in range(len(classes))}, **{name: i for i, name in enumerate(classes)}}
    entries: list[Entry] = []
    missing: list[str] = []
    for record, labels in zip(records, words, strict=True):
        label: Label = tuple(_find.class_number(word, numbers, file) for word in labels)
        if not multi_label:
            if not label:
                raise UserError(f"{file}: {record['path']} has no label")
            label = label[0]
        if (file.parent / record["path"]).exists():
            entries.append(Entry(file.parent / record["path"], label, _span(record, file)))
        else:
            missing.append(record["path"])
    return Listing(
        entries=tuple(entries),
        classes=classes,
        root=file.parent,
        missing=tuple(missing),
        multi_label=multi_label,
        metric="map" if multi_label else "topk",
    )


def class_names(top: Path, used: set[str]) -> tuple[str, ...]:
    """Return the classes of a list: the lines of `classes.txt`, else all numbers up to the largest, or sorted names."""
    if (top / "classes.txt").is_file():
        return tuple(_find.lines(top / "classes.txt"))
    if used and all(word.isdigit() for word in used):
        return tuple(map(str, range(max(map(int, used)) + 1)))
    return tuple(sorted(used))


def _span(record: dict[str, str], file: Path) -> Span | None:
    start, end = record.get("start") or "", record.get("end") or ""
    if not start and not end:
        return None
    try:
        span = Span(start=float(start or 0), end=float(end) if end else None)
    except ValueError:
        raise UserError(f"{file}: {record['path']}: start={start}, end={end} should be seconds, in order") from None
    return span
