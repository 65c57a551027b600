"""OmniSource's Mini-Kinetics (Duan et al. 2020): 200 classes of Kinetics, trimmed videos.

ROOT/annotations/kinetics_200/k200_{train,val}.txt     path label
ROOT/kinetics_200_{train,val}/…                        the paths of the lists
ROOT/annotations/classes.txt                           class names, one per line (else `0`, `1`, …)
"""

from __future__ import annotations

from pathlib import Path

from . import Listing, _find

SPLITS = ("train", "val")
CLASSES = 200


def index(root: Path, split: str) -> Listing:
    """List a split of the trimmed videos."""
    file = _find.annotation(root, f"kinetics_200/k200_{split}.txt", f"k200_{split}.txt")
    names = root / "annotations" / "classes.txt"
    classes = tuple(_find.lines(names)) if names.is_file() else tuple(map(str, range(CLASSES)))
    rows = (line.rsplit(maxsplit=1) for line in _find.lines(file))
    listed = [((_find.plain(row[0]), Path(row[0]).stem), _find.number(row[-1], file), None) for row in rows]
    entries, missing = _find.match(listed, _find.folder(root, f"kinetics_200_{split}"))
    return Listing(entries=entries, classes=classes, root=root, missing=missing)
