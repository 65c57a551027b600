"""Data sets: one file each, with `SPLITS` and `index(root, split) -> Listing`; its docstring shows the folders.

    made = build_index("ucf101", Path("/data/ucf101"), "train1")
    made.save("ucf101_train1.parquet")

What an official list names and the disk lacks is counted: it stands in the index's `rejected` as missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ... import discover
from ...errors import UserError, unknown
from ..index import Entry, Index, Span, build, mirrored

__all__ = ["Entry", "Listing", "Span", "build_index", "names"]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a data set says about one split: its files with their labels, before any file is opened.

    The paths of `entries` are absolute or relative to `root`; a folder of JPEG frames counts as a file. `missing`
    are listed files that are not on the disk. `metric` is how the field scores the set.
    """

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    root: Path
    missing: tuple[str, ...] = ()
    multi_label: bool = False
    metric: Literal["topk", "mean_class", "map", "map_by_video", "map_by_category"] = "topk"

    def __post_init__(self) -> None:
        for entry in self.entries:
            label = entry.label if isinstance(entry.label, tuple) else (entry.label,)
            if any(not -1 <= number < len(self.classes) for number in label):
                raise UserError(f"{entry.path}: label {label} is outside 0..{len(self.classes) - 1}")

    @property
    def listed(self) -> int:
        """How many videos the list names, on the disk or not."""
        return len(self.entries) + len(self.missing)


def names() -> list[str]:
    """Return the data sets: the public files of this package."""
    return discover.names("pipelines.datasets")


def build_index(
    name: str, root: Path | str, split: str = "all", *, workers: int | None = None, progress: bool = True
) -> Index:
    """List and scan one split of a data set.

    An unknown name or split, an empty split, and files of annotations in another form are a `UserError`.
    """
    module = discover.module("pipelines.datasets", name, "data set")
    if module.SPLITS and split not in module.SPLITS:
        raise unknown(f"{name} split", split, module.SPLITS)
    try:
        listing: Listing = module.index(Path(root).expanduser().absolute(), split)
    except (LookupError, ValueError, TypeError, AttributeError) as error:  # what parsing another file's contents raises
        raise UserError(
            f"{root}: the annotation files of {name} {split} have another form than the official ones "
            f"({type(error).__name__}: {error}): download them again, or list your videos in a CSV file: path,label"
        ) from error
    except OSError as error:
        raise UserError(f"{error.filename or root}: {error.strerror}") from None
    if not listing.entries:
        raise UserError(f"{root}: none of {listing.listed} listed videos of {name} {split} is there")
    made = build(
        listing.entries, listing.classes, listing.root,
        multi_label=listing.multi_label, workers=workers, progress=progress,
    )  # fmt: skip
    absent = tuple((path, "missing") for path in listing.missing)
    return replace(made, rejected=absent + made.rejected, metric=listing.metric, mirror=mirrored(listing.classes))
