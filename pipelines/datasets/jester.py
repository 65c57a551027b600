"""Jester v1 (Materzynska et al. 2019): folders of JPEG frames, 27 hand gestures.

ROOT/annotations/jester-v1-{labels,train,validation}.csv     one name per line; id;name
ROOT/rawframes/<id>/00001.jpg                                or videos/<id>.mp4

One class per video; metrics top-1 and top-5. A flip swaps swiping left and right, turning clockwise and
counterclockwise, and the like.
"""

from __future__ import annotations

from pathlib import Path

from . import Listing, _twentybn

SPLITS = ("train", "val", "test")


def index(root: Path, split: str) -> Listing:
    """List a split of the 27 gestures."""
    return _twentybn.listing(root, split, "jester-v1")
