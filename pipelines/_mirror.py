"""Which classes a left-right flip swaps, judged by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

OTHER = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
SIDE = re.compile(r"(?<![a-z])(?:left|right|counterclockwise|clockwise)(?![a-z])")


def mirrored(classes: Sequence[str]) -> tuple[tuple[int, int], ...] | None:
    """Return the pairs of classes that a flip swaps, judged by `left`, `right` and `(counter)clockwise` in their names.

    Empty if no name has such a word; None if a class that a flip would give is missing.

    >>> mirrored(["Swiping Left", "Thumb Up", "Swiping Right"])
    ((0, 2),)
    """
    plain = (re.sub("counter[ _-]clockwise", "counterclockwise", name.lower()) for name in classes)
    numbers = {name: number for number, name in enumerate(plain)}
    turned = {name: SIDE.sub(lambda found: OTHER[found[0]], name) for name in numbers}
    if any(other not in numbers for other in turned.values()):
        return None
    pairs = ((numbers[name], numbers[other]) for name, other in turned.items() if name != other)
    return tuple(sorted({(min(pair), max(pair)) for pair in pairs}))
