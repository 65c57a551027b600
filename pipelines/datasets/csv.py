"""A CSV table with the header `path,label[,start,end]`; paths are relative to the file, or absolute.

Times are in seconds after the file's first frame. ROOT is the CSV file, or a folder that holds `SPLIT.csv`. Labels are
numbers or names, -1 means unknown; several are joined by `|`, and then the set is multi-label. Names are numbered in
sorted order, or by the lines of a `classes.txt` beside the file. Empty lines and lines that start with `#` are dropped.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from ...errors import UserError
from .._video import Label, Span
from . import Entry, Listing, _find

SPLITS: tuple[str, ...] = ()
MAX_CLASSES = 100_000  # a larger label is a mistake
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")


def index(root: Path, split: str) -> Listing:
    """Read the table; `split` matters only if `root` is a folder. Rows whose file is not on disk become `missing`.

    Raises UserError if there is no table, a column is missing, a label is no class or empty (in a multi-label set it
    may be), or not 0 <= start < end.
    """
    file = root / f"{split}.csv" if root.is_dir() else root
    if root.is_dir() and not file.is_file():
        raise UserError(f"{file}: no such file: name the CSV file itself, or choose the split that lies in the folder")
    table = csv.DictReader(_find.lines(file), skipinitialspace=True)
    columns = tuple(table.fieldnames or ())
    if not {"path", "label"} <= set(columns):
        raise UserError(f"{file}: columns {', '.join(columns) or 'none'}: the header must name path and label")
    records = list(table)
    words = [tuple(filter(None, (record["label"] or "").split("|"))) for record in records]
    multi_label = any(len(labels) > 1 for labels in words)
    classes, numbers = class_numbers(file, {word for labels in words for word in labels})
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


def class_numbers(file: Path, used: set[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names of a list, and the class number of every label (see `numbered`).

    Names are the lines of a `classes.txt` beside the list; else they come from the labels `used`: all numbers from 0 to
    the largest if those are numbers, or the sorted names. Raises UserError if such a number is negative (-1 may be),
    fractional, or `MAX_CLASSES` or more.
    """
    names = file.parent / "classes.txt"
    classes = tuple(_find.lines(names)) if names.is_file() else _named(file, used - {"-1"})
    return classes, numbered(classes)


def numbered(classes: tuple[str, ...]) -> dict[str, int]:
    """Map every label as text, be it a number or a class name, to its class number; "-1" (unknown) to -1.

    A class whose name is a number goes by its name.
    """
    return {"-1": -1, **{str(i): i for i in range(len(classes))}, **{name: i for i, name in enumerate(classes)}}


def _named(file: Path, used: set[str]) -> tuple[str, ...]:
    if used and all(word.isdecimal() for word in used):
        largest = max(map(int, used))
        if largest >= MAX_CLASSES:
            raise UserError(f"{file}: label {largest}: classes are numbered from 0, up to {MAX_CLASSES} of them")
        return tuple(map(str, range(largest + 1)))
    if used and all(NUMBER.fullmatch(word) for word in used):
        odd = min(word for word in used if not word.isdecimal())
        raise UserError(f"{file}: label {odd}: labels are whole numbers from 0 (-1: unknown), or names")
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
