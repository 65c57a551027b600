"""Data sets: one module each, with `SPLITS` and `index(root, split) -> Listing`; its docstring shows the layout.

If `SPLITS` is empty or missing, any split name may be asked for.

    made = build_index("ucf101", Path("/data/ucf101"), "train1")
    made.save("ucf101_train1.parquet")

Videos of the official list that are not on disk are listed in the index's `skipped` as missing, unreadable ones with
the reason.
"""

from __future__ import annotations

import glob
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ... import discover
from ...errors import UserError, printable, unknown
from ..index import Entry, Index, SkippedVideo, Span, build, mirrored

__all__ = ["Entry", "Listing", "Span", "build_index", "names"]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One split of a data set as its annotations list it, before any video is opened.

    The paths of `entries` are absolute or relative to `root`; a folder of frames counts as a file. `missing` names
    the listed videos that are not on disk, `skipped` what cannot be read at all. `metric` is the data set's usual one
    (see `Index`). `notes` are sentences on what was not used. Raises UserError if a label is neither the number of a
    class nor, where a video has one label, -1 (unknown).
    """

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    root: Path
    missing: tuple[str, ...] = ()
    multi_label: bool = False
    metric: Literal["topk", "mean_class", "map", "map_by_video", "map_by_category"] = "topk"
    skipped: tuple[SkippedVideo, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for entry in self.entries:
            label, least = (entry.label, 0) if isinstance(entry.label, tuple) else ((entry.label,), -1)
            wrong = [number for number in label if not least <= number < len(self.classes)]
            if wrong:
                raise UserError(f"{entry.path}: label {wrong[0]} is outside 0..{len(self.classes) - 1}")

    @property
    def listed(self) -> int:
        """Number of listed videos, on disk or not."""
        return len(self.entries) + len(self.missing) + len(self.skipped)


def names() -> list[str]:
    """Return the names of the data sets: the public modules of this package."""
    return discover.names("pipelines.datasets")


def build_index(
    name: str,
    root: Path | str,
    split: str = "all",
    *,
    workers: int | None = None,
    progress: bool = True,
    report: Callable[[str], None] | None = None,
) -> Index:
    """List and scan one split of a data set. `root` is its folder; for `csv` and `filelist` the list itself.

    `split="all"` exists only where `SPLITS` is empty or has it. `workers` is that of `build`; `report` is called with
    each note on what was not used. Class names that are not UTF-8 are written with escapes. Raises UserError if the
    name or split is unknown, no video of the split is on disk, or an annotation file is missing or has another format.
    """
    module = discover.module("pipelines.datasets", name, "data set")
    splits = getattr(module, "SPLITS", ())
    if splits and split not in splits:
        raise unknown(f"{name} split", split, splits)
    listing = _listing(module.index, name, Path(root).expanduser().absolute(), split)
    if not listing.entries:
        raise UserError(
            f"{root}: none of the {listing.listed} listed videos of {name} {split} is there{_elsewhere(listing)}"
        )
    if report is not None:
        for note in (*listing.notes, *_unlabeled(listing)):
            report(note)
    classes = list(map(printable, listing.classes))
    made = build(
        listing.entries, classes, listing.root,
        multi_label=listing.multi_label, workers=workers, progress=progress,
    )  # fmt: skip
    missing = tuple(SkippedVideo(path, "missing") for path in listing.missing)
    skipped = (*missing, *listing.skipped, *made.skipped)
    return replace(made, skipped=skipped, metric=listing.metric, mirror=mirrored(classes))


def _listing(index: Callable[[Path, str], Listing], name: str, root: Path, split: str) -> Listing:
    try:
        return index(root, split)
    except (LookupError, ValueError, TypeError, AttributeError) as error:  # raised by parsing a file of another format
        raise UserError(
            f"{root}: the annotation files of {name} {split} differ from the official format "
            f"({type(error).__name__}: {error}): download them again, or list your videos in a CSV file: path,label"
        ) from error
    except OSError as error:
        raise UserError(f"{error.filename or root}: {error.strerror}") from None


def _unlabeled(listing: Listing) -> tuple[str, ...]:
    """Return a note on the videos without a label, if there are some."""
    unknown = sum(entry.label == -1 for entry in listing.entries)
    return (f"{unknown} videos have no label (-1): they can be tested, but not trained on",) if unknown else ()


def _elsewhere(listing: Listing) -> str:
    """Return a hint at the folder above, below or beside the root in which listed videos are found; "" if none is.

    They may be listed without their suffix.
    """
    wanted, root = [name.replace("\\", "/").lstrip("/") for name in listing.missing[:20]], listing.root
    places = itertools.chain(root.parents[:2], root.glob("*/"), root.glob("*/*/"), root.parent.glob("*/"))
    for place in itertools.islice(places, 1000):
        if any((place / name).exists() or any(place.glob(f"{glob.escape(name)}.*")) for name in wanted):
            return f": did you mean {place}? Paths are relative to {root}"
    return ""
