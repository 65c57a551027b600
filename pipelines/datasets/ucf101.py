"""UCF101 (Soomro et al. 2012), three splits: `train1`, `test1`, `train2`, …

    ROOT/annotations/{classInd,trainlist01,testlist01,…}.txt     the official lists
    ROOT/videos/<Class>/v_<Class>_g01_c01.avi                    or UCF-101/, rawframes/

Results are the mean over the three splits. The clips of one video, a `g01` of a class, are a group.
"""

from __future__ import annotations

from pathlib import Path

from . import Listing, _find

SPLITS = tuple(f"{part}{number}" for number in (1, 2, 3) for part in ("train", "test"))


def index(root: Path, split: str) -> Listing:
    """List a split; classes are in the order of `classInd.txt`."""
    names = (line.split() for line in _find.lines(_find.annotation(root, "classInd.txt")))
    classes = tuple(name for _, name in sorted((int(number), name) for number, name in names))
    numbers = {name: number for number, name in enumerate(classes)}
    file = _find.annotation(root, f"{split[:-1]}list0{split[-1]}.txt")
    paths = [line.split()[0] for line in _find.lines(file)]
    listed = [((_find.plain(p),), _find.class_number(p.partition("/")[0], numbers, file), None) for p in paths]
    entries, missing = _find.match(listed, _find.folder(root, "videos", "UCF-101", "rawframes"), _source)
    return Listing(entries=entries, classes=classes, root=root, missing=missing, metric="mean_class")


def _source(name: str) -> str:
    """Return the video that a clip was cut from: `<Class>/v_<Class>_g01`."""
    return name.rpartition("_c")[0]
