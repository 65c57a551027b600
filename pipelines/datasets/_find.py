"""Shared by the data sets: reading annotation files, and finding the videos that they list."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import UserError
from .._video import Label, Span
from ..index import Entry
from . import _walk

COMMENT = re.compile(r"#(\s|$)")  # `#20_Rhythm_clap.avi` is a video of HMDB51
Listed = tuple[tuple[str, ...], Label, Span | None]


def annotation(root: Path, *candidates: str) -> Path:
    """Return the first of these files found in the root or its `annotations` folder. Raises UserError if none is."""
    for name in candidates:
        for path in (root / name, root / "annotations" / name):
            if path.is_file():
                return path
    raise UserError(f"{root}: no {' or '.join(candidates)} there or in annotations/: put the official list there")


def folder(root: Path, *candidates: str) -> Path:
    """Return the first of these sub-folders of the root that exists, else the root itself."""
    return next((root / name for name in candidates if (root / name).is_dir()), root)


def lines(path: Path, *, comments: bool = False) -> Iterator[str]:
    """Yield a text file's lines, stripped, without empty ones; with `comments` also without `# …`.

    Bytes that are not UTF-8 become surrogates, as in the names of files. Raises UserError if the file cannot be read or
    is no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # Excel's "Unicode text"
    if b"\0" in content and not wide:
        raise UserError(f"{path}: holds zero bytes, so it is no text: is this the list?")
    text = content.decode("utf-16", "replace") if wide else content.decode("utf-8-sig", "surrogateescape")
    stripped = (line.strip() for line in text.splitlines())
    return (line for line in stripped if line and not (comments and COMMENT.match(line)))


def rows(path: Path, delimiter: str = ",") -> Iterator[list[str]]:
    """Yield a delimited file's rows, quotes resolved, the header too if there is one, without empty lines.

    Raises UserError if the file cannot be read.
    """
    return csv.reader(lines(path), delimiter=delimiter)


def read_json(path: Path) -> Any:
    """Return the contents of a JSON file. Raises UserError if it cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None


def number(text: str, path: Path) -> int:
    """Return a label as a number. Raises UserError, naming the file, if it is none."""
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{path}: '{text}' should be a number") from None


def class_number(name: str, numbers: dict[str, int], path: Path) -> int:
    """Return the number of a class name. Raises UserError, naming the file, if it is not in the list of classes."""
    if name not in numbers:
        raise UserError(f"{path}: class '{name}' is not in the list of {len(numbers)} classes")
    return numbers[name]


def by_name(top: Path) -> dict[str, Path]:
    """Map path (relative to the folder) and file name, both without suffix, to each video below a folder.

    Of several videos with one file name, the name means the first. Empty if there is no such folder.
    """
    found: dict[str, Path] = {}
    for path in _walk.walk(top).videos if top.is_dir() else ():
        plain = path if path.is_dir() else path.with_suffix("")
        found.setdefault(plain.name, path)
        found[plain.relative_to(top).as_posix()] = path
    return found


def existing(name: str, tops: Iterable[Path]) -> Path | None:
    """Return a listed file or folder below the first of these folders that has it, else None.

    A path written on Windows is found, too.
    """
    names = (name, name.replace("\\", "/")) if "\\" in name else (name,)
    return next((path for top in tops for path in (top / n for n in names) if path.exists()), None)


def match(
    listed: Iterable[Listed], top: Path, group: Callable[[str], str] = lambda name: ""
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Find listed videos, (possible names without suffix, label, span), below a folder; return (entries, missing).

    A name is a path relative to `top` or a file name. The first one found counts; a missing video has its first name.
    `group` returns the group of a video from the last of its names.
    """
    found = by_name(top)
    entries: list[Entry] = []
    missing: list[str] = []
    for candidates, label, span in listed:
        path = next((found[name] for name in candidates if name in found), None)
        if path is None:
            missing.append(candidates[0])
        else:
            entries.append(Entry(path, label, span, group(candidates[-1])))
    return tuple(entries), tuple(missing)


def plain(name: str) -> str:
    """Return a listed path without its suffix, if that is a video suffix."""
    path = Path(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in _walk.VIDEOS else path.as_posix()
