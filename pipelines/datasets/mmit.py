"""Multi-Moments in Time (Monfort et al. 2021): several labels per video.

ROOT/annotations/mmit_categories.txt                     name,number
ROOT/annotations/{trainingSet,validationSet}.csv         class/clip.mp4,number,number,…
ROOT/videos/<class>/clip.mp4                             or rawframes/
"""

from __future__ import annotations

from pathlib import Path

from . import Listing, _find, mit

SPLITS = mit.SPLITS


def index(root: Path, split: str) -> Listing:
    """List a split, whose metric is the mean average precision over videos."""
    classes = mit.categories(_find.annotation(root, "mmit_categories.txt", "moments_categories.txt"))
    file = _find.annotation(root, mit.FILES[split][0])
    listed = [
        ((_find.plain(row[0]),), tuple(_find.number(word, file) for word in row[1:] if word), None)
        for row in _find.rows(file)
    ]
    entries, missing = _find.match(listed, _find.folder(root, "videos", "rawframes"))
    return Listing(
        entries=entries, classes=classes, root=root, missing=missing, multi_label=True, metric="map_by_video"
    )
