"""A folder of videos whose names begin with their class: `ROOT/jump_001.mp4`, `ROOT/run_017.mp4`."""

from __future__ import annotations

from pathlib import Path

from reelbench.pipelines.datasets import Entry, Listing


def index(root: Path, split: str) -> Listing:
    """List the videos of the folder; there are no splits."""
    files = sorted(root.glob("*_*.mp4"))
    classes = tuple(sorted({file.name.partition("_")[0] for file in files}))
    entries = tuple(Entry(file.name, classes.index(file.name.partition("_")[0])) for file in files)
    return Listing(entries=entries, classes=classes, root=root)
