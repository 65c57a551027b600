"""How training changes clips: which part of a picture they show, whether mirrored, and in what colors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..errors import UserError, unknown
from ..spec import Crop
from .augment import Augment


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """What training draws for a clip, see `Recipe`; testing draws nothing.

    The short side is drawn from `short_sides`, both ends included. A flip exchanges the labels that `flip_swaps`, or
    else the index, pairs; it is left out where both are missing (None), and for the labels `flip_keeps`.
    """

    crop: Crop = "random_resized"
    crop_area: tuple[float, float] = (0.08, 1.0)
    short_sides: tuple[int, int] | None = None
    flip: float = 0.0
    flip_swaps: tuple[tuple[int, int], ...] = ()
    flip_keeps: tuple[int, ...] = ()
    augment: Augment = Augment()

    def __post_init__(self) -> None:
        if self.crop not in get_args(Crop):
            raise unknown("crop", self.crop, get_args(Crop))
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise UserError(f"crop_area={self.crop_area} must be two ascending numbers within 0..1")
        if not 0 <= self.flip <= 1:
            raise UserError(f"flip={self.flip} must lie in 0..1")
