"""Diving48 (Li et al. 2018), its cleaned V2 labels.

ROOT/annotations/Diving48_V2_{train,test}.json, Diving48_vocab.json     [{vid_name, label, …}]; names
ROOT/videos/<vid_name>.mp4                                              or rgb/, rawframes/<vid_name>/

48 classes, one per video; metric mean class accuracy. A flip changes no label: no class names a side, and the
published recipe flips.
"""

from __future__ import annotations

from pathlib import Path

from . import Listing, _find

SPLITS = ("train", "test")


def index(root: Path, split: str) -> Listing:
    """List a split; a dive's name is its four phases joined by commas."""
    vocabulary = _find.read_json(_find.annotation(root, "Diving48_vocab.json"))
    classes = tuple(name if isinstance(name, str) else ", ".join(name) for name in vocabulary)
    records = _find.read_json(_find.annotation(root, f"Diving48_V2_{split}.json"))
    listed = [((record["vid_name"],), int(record["label"]), None) for record in records]
    entries, missing = _find.match(listed, _find.folder(root, "videos", "rgb", "rawframes"), _recording)
    return Listing(entries=entries, classes=classes, root=root, missing=missing, metric="mean_class")


def _recording(name: str) -> str:
    """Return the recording that a dive, `<id>_<number>`, was cut from."""
    return name.rpartition("_")[0]
