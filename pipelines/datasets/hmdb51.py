"""HMDB51 (Kuehne et al. 2011), three splits: `train1`, `test1`, `train2`, …

    ROOT/annotations/<class>_test_split{1,2,3}.txt     clip.avi 1 (train), 2 (test) or 0 (unused)
    ROOT/videos/<class>/clip.avi                       or rawframes/

Results are the mean over the three splits.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from . import Listing, _find

SPLITS = tuple(f"{part}{number}" for number in (1, 2, 3) for part in ("train", "test"))


def index(root: Path, split: str) -> Listing:
    """List a split; classes are sorted by name. Raises UserError if the official split files are missing."""
    ending = f"_test_split{split[-1]}.txt"
    files = sorted(_find.folder(root, "annotations", "testTrainMulti_7030_splits").glob(f"*{ending}"))
    if not files:
        raise UserError(f"{root}: no <class>{ending} in annotations/: put the official split files there")
    classes = tuple(file.name.removesuffix(ending) for file in files)
    wanted = "1" if split.startswith("train") else "2"
    listed = [
        ((f"{name}/{_find.plain(clip)}",), label, None)
        for label, (name, file) in enumerate(zip(classes, files, strict=True))
        for clip, use in (line.rsplit(maxsplit=1) for line in _find.lines(file))
        if use == wanted
    ]
    entries, missing = _find.match(listed, _find.folder(root, "videos", "rawframes"), _source)
    return Listing(entries=entries, classes=classes, root=root, missing=missing, metric="mean_class")


def _source(name: str) -> str:
    """Return the film that a clip was cut from: what stands before the class in `<class>/<film>_<class>_…`."""
    label, _, clip = name.partition("/")
    return clip.rpartition(f"_{label}_")[0]
