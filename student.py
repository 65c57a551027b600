"""Student's t distribution: the share of it within ±t, and the t that holds a share.

Student, "The probable error of a mean", Biometrika 6 (1908). Standard library only, so that every room may import it.
"""

from __future__ import annotations

import math
from functools import lru_cache

MOST = 200  # degrees of freedom; with more the tails are nearly the normal distribution's, and a little lighter


def within(t: float, freedom: int) -> float:
    """Return P(|T| <= t): the finite series for whole degrees of freedom (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = total = cosine if odd else 1.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if odd:
        return 2 / math.pi * (angle + sine * (total if freedom > 1 else 0.0))
    return sine * total


def p_value(t: float, freedom: float) -> float:
    """Return the two-sided p-value of a statistic.

    Degrees of freedom, at least 1, are rounded down, and taken for `MOST` if there are more: both raise p a little.

    >>> round(p_value(-2.228, 10), 3)
    0.05
    """
    return max(0.0, 1 - within(abs(t), whole(freedom)))


def whole(freedom: float) -> int:
    """Return degrees of freedom as a whole number from 1 to `MOST`, rounded down."""
    return max(1, int(min(freedom, MOST)))


@lru_cache
def t_quantile(freedom: int, confidence: float = 0.95) -> float:
    """Return the two-sided critical value of Student's t distribution with `freedom` degrees of freedom."""
    low, high = 0.0, 1.0
    while within(high, freedom) < confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, freedom) < confidence else (low, middle)
    return high
