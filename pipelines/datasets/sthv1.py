"""Something-Something v1 (Goyal et al. 2017): folders of JPEG frames.

ROOT/annotations/something-something-v1-{labels,train,validation}.csv     one name per line; id;name
ROOT/rawframes/<id>/00001.jpg                                             or videos/<id>.mp4

174 classes, one per video; metrics top-1 and top-5. A flip swaps the classes that differ by left and right.
"""

from __future__ import annotations

from pathlib import Path

from . import Listing, _twentybn

SPLITS = ("train", "val", "test")


def index(root: Path, split: str) -> Listing:
    """List a split of the 174 classes."""
    return _twentybn.listing(root, split, "something-something-v1")
