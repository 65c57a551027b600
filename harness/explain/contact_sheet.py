"""Contact sheet of training clips as the model gets them: `reelbench data show INDEX --model … --recipe …`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from ...pipelines import Batch, SamplerState
from ...pipelines.index import Index
from ...spec import Clip, Decoder, Recipe
from ..training.stream import open_stream

COLUMNS = 8  # frames of a clip that are shown, evenly spaced
INCH = 1.2


def show(
    index: Index,
    recipe: Recipe,
    clip: Clip,
    to: Path,
    *,
    videos: int,
    sampler: SamplerState,
    device: str,
    workers: int,
    decoder: Decoder = "auto",
) -> list[str]:
    """Draw the first `videos` clips of the sampler's epoch, shuffled, into an image file: one row of frames each.

    A row is up to `COLUMNS` frames, evenly spaced, after the recipe's augmentation (but not mixup or cutmix) and with
    normalization undone. Returns a line of text for each row: the class (or classes) and the path of its video.
    Matplotlib chooses the format by the suffix of `to`.
    """
    count = min(videos, len(index))
    with open_stream(
        index, recipe, clip, batch=count, device="cuda" if device == "cuda" else "cpu", workers=workers,
        sampler=sampler, decoder=decoder,
    ) as stream:  # fmt: skip
        batch = next(iter(stream.epoch()))
    names = [_class(index, label) for label in batch.label]
    _draw(_pictures(batch, clip), names, to)
    paths = [str(index[int(row)].path) for row in batch.video]
    return [f"{name}: {path}" for name, path in zip(names, paths, strict=True)]


def _pictures(batch: Batch, clip: Clip) -> np.ndarray:
    """Return the frames to show, `N columns H W 3` uint8."""
    kept = torch.linspace(0, batch.clip.shape[2] - 1, min(COLUMNS, batch.clip.shape[2])).round().long()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1, 1) for values in (clip.mean, clip.std))
    pixels = batch.clip.cpu()[:, :, kept] * std + mean
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 4, 1).numpy()


def _class(index: Index, label: torch.Tensor) -> str:
    """Return a class's name, or those of a multi-label video."""
    labels = [int(label)] if label.ndim == 0 else label.nonzero().flatten().tolist()
    return ", ".join(index.classes[i] for i in labels)


def _draw(pictures: np.ndarray, names: list[str], to: Path) -> None:
    rows, columns = pictures.shape[:2]
    figure = Figure(figsize=(INCH * (columns + 1.6), INCH * rows), layout="constrained")
    grid = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for axes, strip, name in zip(grid, pictures, names, strict=True):
        axes.imshow(np.concatenate(strip, axis=1), interpolation="none")
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8, wrap=True)
        axes.set(xticks=[], yticks=[])
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, dpi=150)
