"""Histograms of oriented gradients as MaskFeat's targets, batched and on the device of the images.

Dalal and Triggs, Histograms of Oriented Gradients for Human Detection, 2005, as scikit-image computes them with
9 orientations, cells of 8×8 pixels and blocks of one cell (L2), for each color channel on its own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 9
CELL = 8


def hog(images: Tensor) -> Tensor:
    """Return the histograms of 8×8 cells: `... 3 H W` (0..255, any dtype) -> float32 `... H/8 W/8 (3 x 9)`.

    H and W must be multiples of 8. The 9 bins of each channel have L2 norm 1, or are zero if the cell has no gradient.
    """
    rows, columns = _gradients(images.to(torch.float32))
    votes = torch.hypot(rows, columns).unflatten(-1, (-1, CELL)).unflatten(-3, (-1, CELL))
    bins = _orientations(rows, columns).unflatten(-1, (-1, CELL)).unflatten(-3, (-1, CELL))
    votes, bins = (x.transpose(-3, -2).flatten(-2) for x in (votes, bins))  # ... 3 h w 64
    cells = votes.new_zeros((*votes.shape[:-1], BINS)).scatter_add_(-1, bins, votes / CELL**2)
    cells = cells / (cells.square().sum(dim=-1, keepdim=True) + 1e-10).sqrt()
    return cells.movedim(-4, -2).flatten(-2)


def _gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the central differences along rows and columns, zero on the border."""
    rows = F.pad(images[..., 2:, :] - images[..., :-2, :], (0, 0, 1, 1))
    columns = F.pad(images[..., 2:] - images[..., :-2], (1, 1))
    return rows, columns


def _orientations(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the bin of each unsigned gradient: int64, bin b covers 20 b to 20 (b + 1) degrees.

    The half plane is folded before the arc tangent, which therefore never lands on 180 degrees. No gradient of
    whole numbers lies on another edge, so float32 votes as float64 does.
    """
    flat = rows == 0
    columns = torch.where(flat, columns.abs(), torch.where(rows < 0, -columns, columns))
    angle = torch.atan2(rows.abs(), columns)
    return (angle * (BINS / math.pi)).long().clamp_(max=BINS - 1)
