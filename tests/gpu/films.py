"""Films in the sizes and codecs of the field, for `reference.py`: `python tests/gpu/films.py FOLDER`.

FOLDER/h264_340x256.parquet and so on: indexes whose rows are one film over and over, of two classes in turn, as one
class cannot be trained on. Kinetics is often kept at 340x256, which is no multiple of a codec's blocks; 256x256 is;
1920x1080 is what it comes in.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import CODECS, encode

SIZES = {"256x256": 240, "340x256": 240, "1920x1080": 120}  # frames
FILMS = tuple(f"{codec}_{size}" for codec in ("h264", "hevc", "vp9") for size in SIZES)
FPS, GOP = 25, 64
ROWS = 400  # 50 training steps of 8


def make(folder: Path, name: str, frames: int = 0) -> Path:
    """Write a film, unless it is there, and an index of it; return the index's path."""
    codec, _, size = name.partition("_")
    width, height = map(int, size.split("x"))
    film, to = folder / f"{name}{CODECS[codec].suffix}", folder / f"{name}.parquet"
    if not film.exists():
        folder.mkdir(parents=True, exist_ok=True)
        encode(film, _pictures(width, height, frames or SIZES[size]), codec=codec, fps=FPS, gop=GOP)
    rows = [indexing.scan(film, label) for label in (0, 1)] * (ROWS // 2)
    indexing.from_videos(rows, ("even", "odd"), folder).save(to)
    return to


def _pictures(width: int, height: int, frames: int):
    detail = np.random.default_rng(0).integers(0, 256, (height + frames, width + frames, 3), dtype=np.uint8)
    detail = detail.astype(np.float32)
    for _ in range(3):
        detail = (detail + np.roll(detail, 1, 0) + np.roll(detail, 1, 1) + np.roll(detail, 2, 1)) / 4
    detail = np.clip((detail - detail.mean()) * 4 + 128, 0, 255).astype(np.uint8)
    return (np.ascontiguousarray(detail[t // 2 : t // 2 + height, t : t + width]) for t in range(frames))


def main() -> None:
    """Write the films named on the command line after the folder, or all of them, in as many processes as cores."""
    folder, names = Path(sys.argv[1]).absolute(), sys.argv[2:] or FILMS
    with ProcessPoolExecutor() as pool:
        print(*pool.map(make, [folder] * len(names), names), sep="\n")


if __name__ == "__main__":
    main()
