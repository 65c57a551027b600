"""A CSV table with the header `path,label[,start,end][,group]`; paths are relative to the file, or absolute.

ROOT is the CSV file, or a folder that holds `SPLIT.csv`; commas, semicolons or tabs separate its columns, in any order.
Other spellings are known, such as `video_path`, `class_name`, `start_time`, `time_end` (see `COLUMNS`); columns that
are not used are named. Times are in seconds after the file's first frame, `start_frame` and `end_frame` count frames;
an end is the first moment, or frame, that no longer belongs to the video. Videos with the same word as `group` were cut
from one recording, or are alike for another reason: intervals of accuracies allow for it.
Labels are numbers or names, -1 means unknown; several are joined by `|`, and then the set is multi-label. Names are
numbered in sorted order, or by the lines of a `classes.txt` beside the file. Empty lines and comments (`# …`, with a
blank after the `#`) are dropped.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from ...errors import UserError
from .._video import Label, Span
from . import Entry, Listing, _find

SPLITS: tuple[str, ...] = ()
MAX_CLASSES = 100_000  # a larger label is a mistake
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")
# Spellings of each column, the first being ours; case, blanks and hyphens do not matter.
COLUMNS = {
    "path": ("path", "video_path", "file_path", "filepath", "video", "file", "filename", "file_name", "video_name"),
    "label": ("label", "class", "label_name", "class_name", "label_id", "class_id", "category", "action", "target"),
    "start": ("start", "start_time", "time_start", "t_start", "start_sec", "start_seconds", "begin"),
    "end": ("end", "end_time", "time_end", "t_end", "end_sec", "end_seconds", "stop"),
    "start_frame": ("start_frame", "frame_start"),
    "end_frame": ("end_frame", "frame_end"),
    "group": ("group", "group_id", "source_video", "youtube_id"),
}  # fmt: skip


def index(root: Path, split: str) -> Listing:
    """Read the table; `split` matters only if `root` is a folder. Rows whose file is not on disk become `missing`.

    Raises UserError if there is no table, a column is missing, a row has more cells than the header, a label is no
    class or empty (in a multi-label set it may be), or not 0 <= start < end.
    """
    file = root / f"{split}.csv" if root.is_dir() else root
    if root.is_dir() and not file.is_file():
        raise UserError(f"{file}: no such file: name the CSV file itself, or choose the split that lies in the folder")
    records, notes = _records(file)
    words = [tuple(filter(None, record["label"].split("|"))) for record in records]
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
        path = _find.existing(record["path"], [file.parent])
        if path is None:
            missing.append(record["path"])
        else:
            entries.append(Entry(path, label, _span(record, file), record.get("group", "")))
    return Listing(
        entries=tuple(entries),
        classes=classes,
        root=file.parent,
        missing=tuple(missing),
        multi_label=multi_label,
        metric="map" if multi_label else "topk",
        notes=notes,
    )


def _records(file: Path) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """Return the rows by our names of the columns, and notes on the columns that are named otherwise, or not used."""
    lines = list(_find.lines(file, comments=True))
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    table = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    header = next(table, [])
    names = _names(header)
    if not {"path", "label"} <= names.keys():
        raise UserError(
            f"{file}: columns {', '.join(header) or 'none'}: the header must name path and label (a list without a "
            "header, `path label` a line: `data index filelist`)"
        )
    rows = list(table)
    for row in rows:
        if len(row) > len(header):
            raise UserError(
                f"{file}: '{delimiter.join(row)}' has more cells than the header: quote what holds a '{delimiter}'"
            )
    unused = [name for place, name in enumerate(header) if place not in names.values()]
    read = [f"{header[place]} as {ours}" for ours, place in names.items() if header[place] != ours]
    told = (("columns read: ", read), ("columns not used: ", unused))
    notes = tuple(text + ", ".join(columns) for text, columns in told if columns)
    cells = [{name: row[place] if place < len(row) else "" for name, place in names.items()} for row in rows]
    return cells, notes


def _names(header: list[str]) -> dict[str, int]:
    """Return the place of each column that we know, by our name; the earlier spelling counts where two are there."""
    places = {re.sub(r"[ -]+", "_", name.strip().lower()): place for place, name in reversed(list(enumerate(header)))}
    found = {ours: [places[name] for name in spellings if name in places] for ours, spellings in COLUMNS.items()}
    return {ours: some[0] for ours, some in found.items() if some}


def class_numbers(file: Path, used: set[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names of a list, and the class number of every label (see `numbered`).

    Names are the lines of a `classes.txt` beside the list; else they come from the labels `used`: all numbers from 0 to
    the largest if those are numbers, or the sorted names. Raises UserError if such a number is negative (-1 may be),
    fractional, or `MAX_CLASSES` or more.
    """
    names = file.parent / "classes.txt"
    classes = tuple(_find.lines(names, comments=True)) if names.is_file() else _named(file, used - {"-1"})
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


def _span(record: Mapping[str, str], file: Path) -> Span | None:
    """Return the span of a row: that in seconds if it has one, else that in frames, else None."""
    seconds, frames = ((record.get(f"start{kind}", ""), record.get(f"end{kind}", "")) for kind in ("", "_frame"))
    start, end = seconds if any(seconds) else frames
    if not start and not end:
        return None
    unit = "seconds" if any(seconds) else "frames"
    try:
        return Span(start=float(start or 0), end=float(end) if end else None, unit=unit)
    except ValueError:
        raise UserError(f"{file}: {record['path']}: start={start}, end={end} should be {unit}, in order") from None
