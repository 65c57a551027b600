"""Makes the built-in synthetic data set: small encoded videos whose label is a motion. See `_sprites`.

    paths = make(Path("data"), videos=(3200, 240, 400))   # {"train": data/train.parquet, "val": …, "test": …}
    paths = ensure(cache_root)                            # made once, then cached
    paths = ensure(cache_root, hard=True)                 # pairs of motions, a distractor, longer videos
    paths = ensure(cache_root, device="cuda")             # the same clips in files that NVDEC decodes

A horizontal flip turns `left` into `right` and `clockwise` into `counter_clockwise`: the indexes' `mirror` says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from einops import repeat

from ..errors import UserError
from . import _parallel
from ._encode import encode, find
from ._sprites import MOTIONS, PAIRS, draw, draw_pair
from .index import build, mirrored

CLASSES = tuple(MOTIONS)
HARD_CLASSES = tuple(PAIRS)
VIDEOS = (3200, 240, 400)
HARD_VIDEOS = (3840, 480, 960)
# NVDEC decodes no VP9 below 128 pixels. So pixels are doubled; halved again, a clip is the one that a CPU sees.
CUDA: dict[str, Any] = {"codec": "h264", "zoom": 2}
SPLITS = ("train", "val", "test")
VERSION, HARD_VERSION = 8, 9  # increase it when the pixels change, so that cached sets are made anew


@dataclass(frozen=True, kw_only=True)
class Film:
    """How the videos of a set are drawn and encoded. Raises UserError if a number is out of range.

    `size` is (width, height) as drawn, both even; the files are `zoom` times as wide and high. `gop` is the key-frame
    interval in frames. `hard` draws the 16 harder classes of `_sprites`. The same `seed` gives the same pixels, and on
    one machine the same bytes.
    """

    size: tuple[int, int] = (64, 64)
    zoom: int = 1
    frames: int = 16
    fps: int = 15
    codec: str = "vp9"
    gop: int = 8
    seed: int = 0
    hard: bool = False

    def __post_init__(self) -> None:
        if min(self.size) < 64 or any(side % 2 for side in self.size):
            raise UserError(f"size={self.size[0]}x{self.size[1]}: both sides must be even and at least 64")
        if min(self.zoom, self.frames, self.fps, self.gop) < 1:
            raise UserError(f"zoom={self.zoom}, frames={self.frames}, fps={self.fps}, gop={self.gop}: at least 1 each")

    @property
    def classes(self) -> tuple[str, ...]:
        """The motions, by label."""
        return HARD_CLASSES if self.hard else CLASSES


EASY, HARD = Film(), Film(hard=True, frames=32)


@dataclass(frozen=True, kw_only=True)
class _Video:
    """One file; its randomness depends only on the seed, the split and the number."""

    out: Path
    split: str
    number: int
    film: Film

    @property
    def label(self) -> int:
        return self.number % len(self.film.classes)

    @property
    def motion(self) -> str:
        return self.film.classes[self.label]

    @property
    def distractor(self) -> bool:
        """Whether a video of a harder class has one: all but every other training video of a class."""
        return self.split != "train" or self.number // len(self.film.classes) % 2 == 1

    @property
    def path(self) -> Path:
        return self.out / self.split / self.motion / f"{self.number:06d}{find(self.film.codec).suffix}"


def make(
    out: Path | str,
    *,
    videos: tuple[int, int, int] = VIDEOS,
    film: Film = EASY,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Path]:
    """Write `out/{train,val,test}/<class>/<number>.<suffix>` and an index for each split; return the indexes' paths.

    `videos` is the number of train, val and test videos. Labels take turns. `workers` defaults to the number of
    cores; fewer than 2 run in this process. Raises UserError if a number is negative or the codec cannot be written.
    """
    if len(videos) != len(SPLITS) or min(videos) < 0:
        raise UserError(f"{videos=}: the numbers of train, val and test videos must not be negative")
    find(film.codec)
    out = Path(out).absolute()
    plan = [
        _Video(out=out, split=split, number=number, film=film)
        for split, count in zip(SPLITS, videos, strict=True)
        for number in range(count)
    ]
    for folder in {video.path.parent for video in plan}:
        folder.mkdir(parents=True, exist_ok=True)
    for _ in _parallel.ordered(_write, plan, crashed=_crashed, title="encoding", workers=workers, progress=progress):
        pass
    indexes = {split: out / f"{split}.parquet" for split in SPLITS}
    for split, path in indexes.items():
        entries = [(video.path, video.label) for video in plan if video.split == split]
        index = build(entries, film.classes, out, workers=workers, progress=progress)
        replace(index, mirror=mirrored(film.classes)).save(path)
    return indexes


def ensure(
    cache_root: Path | str,
    *,
    hard: bool = False,
    device: str = "cpu",
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Path]:
    """Return the index files of the built-in set, made on the first call. Safe against interruptions and races.

    `device="cuda"` gives the same motions in files that NVDEC decodes. The folder is named by a hash of the parameters,
    and appears only when complete.
    """
    videos, film = (HARD_VIDEOS, HARD) if hard else (VIDEOS, EASY)
    film = replace(film, **CUDA) if device == "cuda" else film
    text = json.dumps([HARD_VERSION if hard else VERSION, videos, asdict(film)], sort_keys=True)
    root = Path(cache_root).expanduser().absolute()
    folder = root / f"synthetic-{'hard-' if hard else ''}{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        with (root / f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _make_atomically(folder, videos, film, workers, progress)
    return {split: folder / f"{split}.parquet" for split in SPLITS}


def _make_atomically(
    folder: Path, videos: tuple[int, int, int], film: Film, workers: int | None, progress: bool
) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    make(partial, videos=videos, film=film, workers=workers, progress=progress)
    os.replace(partial, folder)


def _write(video: _Video) -> None:
    film = video.film
    rng = np.random.default_rng([film.seed, SPLITS.index(video.split), video.number])
    if film.hard:
        pixels = draw_pair(video.motion, rng, frames=film.frames, size=film.size, distractor=video.distractor)
    else:
        pixels = draw(video.motion, rng, frames=film.frames, size=film.size)
    pixels = repeat(pixels, "t h w c -> t (h zoom_h) (w zoom_w) c", zoom_h=film.zoom, zoom_w=film.zoom)
    encode(video.path, pixels, codec=film.codec, fps=film.fps, gop=film.gop)


def _crashed(video: _Video) -> None:
    raise UserError(f"{video.path}: the {video.film.codec} encoder crashed: choose another codec")
