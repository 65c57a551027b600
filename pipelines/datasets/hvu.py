"""Holistic Video Understanding (Diba et al. 2020): tags of six categories, several per video.

    ROOT/annotations/HVU_{Train,Val}_V1.0.csv         Tags,youtube_id,time_start,time_end; tags joined by |
    ROOT/annotations/HVU_Tags_Categories_V1.0.csv     Tag,Category
    ROOT/videos_{train,val}/<id>_<start>_<end>.mp4    or rawframes_{train,val}/

Classes are `category/tag`, sorted within their category: action, attribute, concept, event, object, scene.
Clips of one YouTube video are a group.
"""

from __future__ import annotations

import csv
from pathlib import Path

from . import Listing, _find

SPLITS = ("train", "val")


def index(root: Path, split: str) -> Listing:
    """List a split, whose metric is the mean average precision within each category."""
    tags = csv.DictReader(_find.lines(_find.annotation(root, "HVU_Tags_Categories_V1.0.csv")))
    pairs = sorted((record["Category"], record["Tag"]) for record in tags)
    numbers = {tag: number for number, (_, tag) in enumerate(pairs)}
    file = _find.annotation(root, f"HVU_{split.title()}_V1.0.csv", f"hvu_{split}.csv")
    listed = []
    for record in csv.DictReader(_find.lines(file)):
        start, end = (int(float(record[key])) for key in ("time_start", "time_end"))
        label = tuple(sorted(_find.class_number(tag, numbers, file) for tag in record["Tags"].split("|")))
        listed.append(((f"{record['youtube_id']}_{start:06d}_{end:06d}", record["youtube_id"]), label, None))
    entries, missing = _find.match(listed, _find.folder(root, f"videos_{split}", f"rawframes_{split}"), group=str)
    classes = tuple(f"{category}/{tag}" for category, tag in pairs)
    return Listing(
        entries=entries, classes=classes, root=root, missing=missing, multi_label=True, metric="map_by_category"
    )
