"""Pictures that carry their number in gray cells and a color in each corner, and what is read from them.

red    b0   b1   green
b2     b3   b4   b5          b0 … b5: the bits of the number, light for 1; p: their parity, q: its opposite
blue   p    q    yellow
"""

from __future__ import annotations

import numpy as np

LIMIT = 64  # numbers
DARK, LIGHT = 30, 225
COLORS = np.array([(220, 20, 20), (20, 200, 20), (20, 20, 220), (230, 230, 30)], np.uint8)
# Where the cells of a picture of 64 x 48 are read: within its middle square, away from their edges.
ACROSS, DOWN = (11, 24, 40, 53), (8, 24, 40)
CORNERS = (0, 3, 8, 11)
CELLS = tuple(cell for cell in range(12) if cell not in CORNERS)
REACH = 2


def picture(number: int, size: tuple[int, int]) -> np.ndarray:
    """Return the picture of a number below `LIMIT`, H x W x 3 uint8, in a size of about 4:3."""
    bits = [number >> bit & 1 for bit in range(6)]
    parity = sum(bits) % 2
    cells = np.zeros((12, 3), np.uint8)
    cells[list(CELLS)] = np.where([*bits, parity, 1 - parity], LIGHT, DARK)[:, None]
    cells[list(CORNERS)] = COLORS
    rows, columns = (np.minimum(np.arange(n) * k // n, k - 1) for n, k in zip(size[::-1], (3, 4), strict=True))
    return cells.reshape(3, 4, 3)[rows][:, columns]


def read(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the colors of the twelve cells of pictures F x H x W x 3, as F x 12 x 3 float.

    `pictures` are whole frames, or the middle squares, of videos of this (width, height).
    """
    height, width = pictures.shape[1:3]
    scale = height / size[1]
    found = np.empty((len(pictures), 12, 3))
    for cell in range(12):
        x = ACROSS[cell % 4] / 64 * size[0] * scale - (size[0] * scale - width) / 2
        y = DOWN[cell // 4] / 48 * height
        area = pictures[:, int(y) - REACH : int(y) + REACH, int(x) - REACH : int(x) + REACH]
        found[:, cell] = area.mean(axis=(1, 2))
    return found


def gray(cells: np.ndarray) -> np.ndarray:
    """Return the brightness of the gray cells, F x 8."""
    return cells[:, list(CELLS)].mean(axis=2)


def number(brightness: np.ndarray) -> int:
    """Return the number that a picture's gray cells show; -1 if they show none."""
    bits = [int(value > (DARK + LIGHT) / 2) for value in brightness]
    plain = all(min(abs(value - DARK), abs(value - LIGHT)) < 50 for value in brightness)
    if not plain or sum(bits[:6]) % 2 != bits[6] or bits[6] == bits[7]:
        return -1
    return sum(bit << place for place, bit in enumerate(bits[:6]))


def corners(cells: np.ndarray) -> np.ndarray:
    """Return the colors of the corners, F x 4 x 3."""
    return cells[:, list(CORNERS)]
