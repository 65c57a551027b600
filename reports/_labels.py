"""Label placement in the scatter plot: the nearest free place for each, without overlapping marks or other labels.

Boxes are rows of `x0, y0, x1, y1` in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
SIDES = ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1))  # right, left, corners, above, below


def around(points: Boxes, radii: Boxes) -> Boxes:
    """Return the boxes of circles: points N×2, radii N."""
    return np.hstack([points - radii[:, None], points + radii[:, None]])


def along(starts: Boxes, ends: Boxes) -> Boxes:
    """Return the boxes of vertical or horizontal lines, padded by one pixel on either side."""
    return np.hstack([np.minimum(starts, ends) - 1, np.maximum(starts, ends) + 1])


def place(
    center: Sequence[float],
    radius: float,
    size: tuple[float, float],
    taken: Boxes,
    within: Sequence[float],
    gaps: Sequence[float],
) -> Boxes | None:
    """Return the nearest box of `size` beside a circle, inside `within` and free of `taken`; None if there is none.

    `size` is (width, height), `within` a box. `gaps` are the distances from the circle to try, in pixels, ascending.
    """
    for box in _candidates(center, radius, size, gaps):
        inside = (box[:2] >= np.array(within[:2])).all() and (box[2:] <= np.array(within[2:])).all()
        if inside and not ((taken[:, :2] < box[2:]) & (taken[:, 2:] > box[:2])).all(axis=1).any():
            return box
    return None


def _candidates(
    center: Sequence[float], radius: float, size: tuple[float, float], gaps: Sequence[float]
) -> Iterator[Boxes]:
    half = np.array(size) / 2
    for gap in gaps:
        for side in SIDES:
            # Towards a corner the circle's edge is nearer: 0.7 of the radius at 45 degrees.
            reach = radius * (0.7 if all(side) else 1) + gap
            middle = np.array(center) + np.array(side) * (reach + half)
            yield np.concatenate([middle - half, middle + half])
