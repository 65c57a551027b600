"""Shared by the data sets: reading annotation files, and finding the videos that they list."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import UserError
from .._video import Label, Span
from ..index import Entry

VIDEOS = frozenset([".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts"])
FRAMES = frozenset((".jpg", ".jpeg"))
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


def lines(path: Path) -> Iterator[str]:
    """Yield a text file's lines, stripped, without empty ones and those that start with `#`.

    Raises UserError if the file cannot be read as UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8: is this the list? Then save it as UTF-8") from None
    return (line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


def rows(path: Path, delimiter: str = ",") -> Iterator[list[str]]:
    """Yield a delimited file's rows, quotes resolved, the header too if there is one.

    Empty lines and lines that start with `#` are dropped. Raises UserError if the file cannot be read as UTF-8.
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


def is_frames(path: Path) -> bool:
    """Whether a path is a folder that holds a JPEG file, whatever its name."""
    return path.is_dir() and any(child.suffix.lower() in FRAMES for child in path.iterdir())


def videos_under(top: Path) -> Iterator[Path]:
    """Yield the videos at any depth below a folder, sorted: files by their suffix, and folders of JPEG frames.

    Names that start with a dot are left out, and so is what lies in a folder of frames.
    """
    for path in sorted(top.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in VIDEOS and path.is_file():
            yield path
        elif path.is_dir():
            yield from (path,) if is_frames(path) else videos_under(path)


def by_name(top: Path) -> dict[str, Path]:
    """Map path (relative to the folder) and file name, both without suffix, to each video below a folder.

    Of several videos with one file name, the name means the first. Empty if there is no such folder.
    """
    found: dict[str, Path] = {}
    for path in videos_under(top) if top.is_dir() else ():
        plain = path if path.is_dir() else path.with_suffix("")
        found.setdefault(plain.name, path)
        found[plain.relative_to(top).as_posix()] = path
    return found


def match(listed: Iterable[Listed], top: Path) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Find listed videos, (possible names without suffix, label, span), below a folder; return (entries, missing).

    A name is a path relative to `top` or a file name. The first one found counts; a missing video has its first name.
    """
    found = by_name(top)
    entries: list[Entry] = []
    missing: list[str] = []
    for candidates, label, span in listed:
        path = next((found[name] for name in candidates if name in found), None)
        if path is None:
            missing.append(candidates[0])
        else:
            entries.append(Entry(path, label, span))
    return tuple(entries), tuple(missing)


def plain(name: str) -> str:
    """Return a listed path without its suffix, if that is a video suffix."""
    path = Path(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in VIDEOS else path.as_posix()
