"""MaskFeat: pre-training by predicting HOG features of masked patches. No variants: see `mvit/b_16x4_maskfeat`.

Wei et al., Masked Feature Prediction for Self-Supervised Visual Pre-Training, 2021 (arXiv 2112.09133), in the form of
github.com/mx-mark/VideoTransformer-pytorch: cube masks of few frames, and a loss at each cube's center frame only.

    model = MaskFeat(models.build("mvit/b_16x4_maskfeat"))
    masks = [draw_mask(rng, model.grid) for _ in range(batch)]
    loss = model.loss(clip, frames, masks)          # clip normalized, frames the same pixels on the 0..255 scale
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from ..errors import UserError
from ._hog import BINS, CELL, hog
from ._variant import Variant
from .mvit import Grid, MViT

VARIANTS: dict[str, Variant] = {}


@dataclass(frozen=True)
class CubeMask:
    """The mask of one clip on the encoder's output grid of time slots and patches, not of frames and pixels.

    `patches` is bool `slots H W`, True where masked; `cubes` are (first slot, number of slots) along time.
    """

    patches: Tensor
    cubes: tuple[tuple[int, int], ...]


def draw_mask(
    rng: random.Random,
    grid: Grid = (8, 14, 14),
    *,
    ratio: float = 0.4,
    min_aspect: float = 0.3,
) -> CubeMask:
    """Draw cubes until `ratio` of the time slots, rounded down, are masked, each over at most `ratio` of its patches.

    `grid` is (slots, rows, columns), such as `MaskFeat.grid`. The same `rng` state gives the same mask as the official
    generator. With 8×14×14 and 0.4, up to 78 patches in each of three slots are masked: 15 % of all. A cube is a union
    of rectangles, of height / width from `min_aspect` to its inverse, and of about 16 of 14×14 patches or more.
    """
    slots, rows, columns = grid
    wanted = int(slots * ratio)
    min_patches = max(1, 16 * rows * columns // 196)
    patches = np.zeros(grid, dtype=bool)
    taken = np.zeros(slots, dtype=bool)
    cubes = []
    while taken.sum() < wanted:
        mask = _draw_patches(rng, (rows, columns), int(rows * columns * ratio), min_patches, min_aspect)
        start = rng.randint(0, slots)  # `slots` itself may be drawn, and masks nothing
        length = rng.randint(1, wanted - int(taken.sum()))
        free = 0
        while free < length and start + free < slots and not taken[start + free]:
            free += 1
        taken[start : start + free] = True
        patches[start : start + free] = mask
        if free:
            cubes.append((start, free))
    return CubeMask(torch.from_numpy(patches), tuple(cubes))


def _draw_patches(
    rng: random.Random, shape: tuple[int, int], wanted: int, min_patches: int, min_aspect: float
) -> np.ndarray:
    """Draw rectangles over H×W patches until `wanted` are covered, or ten tries in a row fail, as in BEiT."""
    mask = np.zeros(shape, dtype=bool)
    missing = wanted
    while missing > 0:
        added = _draw_rectangle(rng, mask, missing, min_patches, min_aspect)
        if not added:
            break
        missing -= added
    return mask


def _draw_rectangle(rng: random.Random, mask: np.ndarray, most: int, min_patches: int, min_aspect: float) -> int:
    rows, columns = mask.shape
    for _ in range(10):
        area = rng.uniform(min_patches, most)
        aspect = math.exp(rng.uniform(math.log(min_aspect), math.log(1 / min_aspect)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if width >= columns or height >= rows:
            continue
        top, left = rng.randint(0, rows - height), rng.randint(0, columns - width)
        window = mask[top : top + height, left : left + width]
        added = int(window.size - window.sum())
        if 0 < added <= most:
            window[:] = True
            return added
    return 0


def centers(masks: Sequence[CubeMask], slot_frames: int) -> Tensor:
    """Return the (sample, frame) index of every cube's center frame, int64 K×2, at `slot_frames` frames a slot."""
    pairs = [
        (sample, slot_frames * start + slot_frames * length // 2)
        for sample, mask in enumerate(masks)
        for start, length in mask.cubes
    ]
    return torch.tensor(pairs).view(-1, 2)


def hog_targets(frames: Tensor, patch: int) -> Tensor:
    """Return the prediction target of every patch: `... 3 H W` (0..255) -> `... H/patch W/patch (cells x 27)`."""
    side = patch // CELL
    return rearrange(hog(frames), "... (h dh) (w dw) c -> ... h w (dh dw c)", dh=side, dw=side)


def center_loss(prediction: Tensor, target: Tensor, mask: Tensor, center: Tensor) -> Tensor:
    """Return the mean squared error over the masked patches of the center frames.

    `prediction` is `N T H W C` (T frames, H W patches), `target` `K H W C` for the K centers, `mask` bool
    `N slots H W`, `center` as `centers` returns it.
    """
    sample, frame = center.unbind(1)
    slot_frames = prediction.shape[1] // mask.shape[1]
    weight = mask[sample, frame // slot_frames].to(target.dtype)
    error = (prediction[sample, frame].to(target.dtype) - target).square().mean(dim=-1)
    return (error * weight).sum() / (weight.sum() + 1e-5)


class MaskFeat(nn.Module):
    """MaskFeat around an MViT encoder: predicts the HOG features of masked patches.

    The encoder's `decoder_pred` must be as wide as a token's target: `frames of a slot x cells of a patch x 27`. Raises
    UserError otherwise. The encoder is not copied, and its `decoder_pred` is made trainable.
    """

    def __init__(self, encoder: MViT) -> None:
        super().__init__()
        slots, side = encoder.output_grid[:2]
        frames, size, _ = encoder.clip_shape
        self.grid = encoder.output_grid
        self.slot_frames = frames // slots
        self.patch = size // side
        width = self.slot_frames * (self.patch // CELL) ** 2 * 3 * BINS
        if encoder.decoder_pred.out_features != width:
            raise UserError(f"maskfeat: a token's target has {width} values: set feature_dim={width}")
        self.encoder = encoder
        encoder.decoder_pred.requires_grad_(True)

    def forward(self, clip: Tensor, mask: Tensor) -> Tensor:
        """Predict every patch of every frame: `N 3 T H W` and bool `N slots h w` -> `N T h w (cells x 27)`."""
        tokens = self.encoder.norm(self.encoder.encode(clip, mask)[:, 1:])
        features = self.encoder.decoder_pred(tokens)
        _, h, w = self.grid
        return rearrange(features, "n (s h w) (f c) -> n (s f) h w c", h=h, w=w, f=self.slot_frames)

    def loss(self, clip: Tensor, frames: Tensor, masks: Sequence[CubeMask]) -> Tensor:
        """Return the loss of a batch: `clip` as the encoder takes it, `frames` `N 3 T H W` on the 0..255 scale.

        Targets are computed for the center frames only.
        """
        mask = torch.stack([m.patches for m in masks]).to(clip.device)
        center = centers(masks, self.slot_frames).to(clip.device)
        target = hog_targets(frames[center[:, 0], :, center[:, 1]], self.patch)
        return center_loss(self(clip, mask), target, mask, center)
