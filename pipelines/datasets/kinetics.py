"""Kinetics-400, -600 and -700 (Kay et al. 2017), by the official CSV files or MMAction2's lists.

    ROOT/annotations/kinetics_{train,val,test}.csv     label,youtube_id,time_start,time_end,split
      or ROOT/kinetics{400,600,700}_{train,val}_list_{videos,rawframes}.txt     see `filelist`
    ROOT/videos_{train,val}/<class_name>/<id>_<start>_<end>.mp4     or <id>.mp4; rawframes_{train,val} likewise

If there is a list, it is read instead of the CSV files, and the class names are the numbers `0`, `1`, …. Otherwise
classes are the sorted names of the train CSV (required for every split), blanks as `_` and quotes dropped, as every
released checkpoint has them. Clips of one YouTube video are a group.
"""

from __future__ import annotations

import csv
from pathlib import Path

from ...errors import UserError
from . import Listing, _find, filelist

SPLITS = ("train", "val", "test")
SIZES = (400, 600, 700)


def index(root: Path, split: str) -> Listing:
    """List a split. Raises UserError if the train CSV has not 400, 600 or 700 classes."""
    top = _find.folder(root, f"videos_{split}", f"rawframes_{split}", split)
    for size in SIZES:
        for ready in (root / f"kinetics{size}_{split}_list_{kind}.txt" for kind in ("videos", "rawframes")):
            if ready.is_file():
                return filelist.read(ready, [top, root], classes=tuple(map(str, range(size))))
    train = _find.annotation(root, "kinetics_train.csv", "train.csv")
    classes = tuple(sorted({_plain(record["label"]) for record in csv.DictReader(_find.lines(train))}))
    if len(classes) not in SIZES:
        raise UserError(f"{train}: {len(classes)} classes, Kinetics has 400, 600 or 700: is the file complete?")
    numbers = {name: number for number, name in enumerate(classes)}
    file = _find.annotation(root, f"kinetics_{split}.csv", f"{split}.csv")
    listed = []
    for record in csv.DictReader(_find.lines(file)):
        start, end = (int(float(record[key])) for key in ("time_start", "time_end"))
        names = (f"{record['youtube_id']}_{start:06d}_{end:06d}", record["youtube_id"])
        listed.append((names, _find.class_number(_plain(record["label"]), numbers, file), None))
    entries, missing = _find.match(listed, top, group=str)  # the YouTube video
    return Listing(entries=entries, classes=classes, root=root, missing=missing)


def _plain(name: str) -> str:
    return name.replace(" ", "_").replace('"', "")
