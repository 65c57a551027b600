"""Draws videos of a moving sprite whose class is the motion: neither one frame nor a set of frames reveals the class.

A sprite has four cyclic coordinates: x, y, angle and size (which restarts small after its largest). In every video,
two of them take evenly spaced values along a random part of their cycle, and two stay constant. The coordinate of the
class takes its values in order; the other one goes there and back:

    time        0 1 2 3 4 5 6 7
    class       0 1 2 3 4 5 6 7    or, in the opposite class, 7 6 5 4 3 2 1 0
    other       0 2 4 6 7 5 3 1    starting at a random frame, in either direction

So in every frame, each coordinate is uniformly distributed whatever the class: a single frame carries no information.
An unordered set of frames reveals which two coordinates change, which leaves four classes. A model that ignores frame
order cannot exceed 1 in 4, twice the chance of 1 in 8; one that does has used motion.

The 16 harder classes are pairs of motions of the sprite with the red front, one after the other, the second along the
coordinate after the first's; the other coordinates are constant. A distractor with a blue front moves by a random pair,
in the tests always; half of the training videos go without, so that models leave chance sooner.
Halfway, both jump to a random place: a continuous path would reveal both directions by its corner. So a model that
ignores frame order learns at most which coordinates change: 1 in 4 (chance is 1 in 16).
"""

from __future__ import annotations

import numpy as np

# Class: (coordinate, direction). Angles grow clockwise, because rows grow downwards.
MOTIONS: dict[str, tuple[int, int]] = {
    "left": (0, -1),
    "right": (0, 1),
    "up": (1, -1),
    "down": (1, 1),
    "clockwise": (2, 1),
    "counter_clockwise": (2, -1),
    "approach": (3, 1),
    "recede": (3, -1),
}
PAIRS: dict[str, tuple[str, str]] = {
    f"{first}_then_{second}": (first, second)
    for first in MOTIONS
    for second in MOTIONS
    if MOTIONS[second][0] == (MOTIONS[first][0] + 1) % 4
}
RADIUS = (0.18, 0.42)  # smallest and largest, relative to the short side
SPAN = (0.5, 0.8)  # of a cycle
HALF_SPAN = (0.25, 0.4)  # for one motion of a pair, which has half as many frames


def draw(motion: str, rng: np.random.Generator, *, frames: int, size: tuple[int, int]) -> np.ndarray:
    """Return one video, uint8 `T H W 3`, of class `motion`. `size` is (width, height); only `rng` is random."""
    background = _background(rng, frames, size)
    colors = _colors(rng)
    shape = rng.integers(len(SHAPES))
    return _paint(background, coordinates(motion, rng, frames), shape, colors).astype(np.uint8)


def draw_pair(
    pair: str, rng: np.random.Generator, *, frames: int, size: tuple[int, int], distractor: bool = True
) -> np.ndarray:
    """Return one video of the harder class `pair`, uint8 `T H W 3`: a red sprite, in front of a blue `distractor`."""
    video = _background(rng, frames, size)
    names = list(PAIRS)
    sprites = [(names[rng.integers(len(names))], 2), (pair, 0)] if distractor else [(pair, 0)]
    for name, channel in sprites:
        colors = _colors(rng)
        colors[1, [1, 2 - channel]] -= 195  # only one channel of the front stays bright
        video = _paint(video, pair_coordinates(name, rng, frames), rng.integers(len(SHAPES)), colors)
    return video.astype(np.uint8)


def _paint(video: np.ndarray, place: np.ndarray, shape: np.integer, colors: np.ndarray) -> np.ndarray:
    """Return a video, float32 `T H W 3`, with a sprite drawn on it at coordinates `4 T`."""
    height, width = video.shape[1:3]
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)
    across, down, angle, growth = place[:, :, None, None]
    x = _wrap(columns - across * width, width)
    y = _wrap(rows - down * height, height)
    radius = min(height, width) * RADIUS[0] * (RADIUS[1] / RADIUS[0]) ** growth
    angle = 2 * np.pi * angle
    cos, sin = np.cos(angle), np.sin(angle)
    u = (cos * x + sin * y) / radius
    v = (cos * y - sin * x) / radius
    inside = np.clip((1 - SHAPES[shape](u, v)) * radius + 0.5, 0, 1)[..., None]
    front = np.clip(u * radius + 0.5, 0, 1)[..., None]
    sprite = colors[0] + (colors[1] - colors[0]) * front
    return video + (sprite - video) * inside


def coordinates(
    motion: str, rng: np.random.Generator, frames: int, *, span: tuple[float, float] = SPAN, others: int = 1
) -> np.ndarray:
    """Return the four coordinates over time, float32 `4 T` in [0, 1); `others` of them go there and back.

    The rest stay constant. `span` is the range of a path's length, in cycles. The class only determines the order of
    the values in time.
    """
    place = np.repeat(rng.random((4, 1)), frames, axis=1)
    moving, direction = MOTIONS[motion]
    steps = max(frames - 1, 1)
    place[moving] += rng.uniform(*span) * np.arange(frames)[::direction] / steps
    for other in (moving + rng.permutation([1, 2, 3])[:others]) % 4:
        place[other] += rng.uniform(*span) * _there_and_back(frames, rng) / steps
    return (place % 1).astype(np.float32)


def pair_coordinates(pair: str, rng: np.random.Generator, frames: int) -> np.ndarray:
    """Return the four coordinates (`4 T`) of two motions, the second of which starts at a random place."""
    halves = frames // 2, frames - frames // 2
    parts = [coordinates(m, rng, n, span=HALF_SPAN, others=0) for m, n in zip(PAIRS[pair], halves, strict=True)]
    return np.concatenate(parts, axis=1)


def _there_and_back(frames: int, rng: np.random.Generator) -> np.ndarray:
    steps = np.arange(frames)
    loop = np.concatenate([steps[::2], steps[1::2][::-1]])
    return np.roll(loop, rng.integers(frames))[:: rng.choice((-1, 1))]


def _wrap(distance: np.ndarray, period: int) -> np.ndarray:
    return (distance + period / 2) % period - period / 2


def _background(rng: np.random.Generator, frames: int, size: tuple[int, int]) -> np.ndarray:
    """Return a smooth random texture that drifts, float32 `T H W 3`."""
    width, height = size
    texture = _smooth_noise(rng, height, width)
    drift = rng.uniform(-0.6, 0.6, (2, 1)) * np.arange(frames) + rng.uniform(0, max(size), (2, 1))
    rows = (np.arange(height) + drift[0].round().astype(int)[:, None]) % height
    columns = (np.arange(width) + drift[1].round().astype(int)[:, None]) % width
    return texture[rows[:, :, None], columns[:, None, :]]


def _smooth_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a periodic low-contrast texture `H W 3`: a grid of 6 x 6 random colors, interpolated."""
    cells = 6
    noise = rng.uniform(-20, 20, (cells, cells, 3)) + rng.uniform(110, 146, 3)
    for axis, length in ((0, height), (1, width)):
        position = np.arange(length) * cells / length
        low = position.astype(int)
        weight = (position - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first, second = noise.take(low, axis), noise.take((low + 1) % cells, axis)
        noise = first + (second - first) * weight
    return noise.astype(np.float32)


def _colors(rng: np.random.Generator) -> np.ndarray:
    """Return the colors of the sprite's back (dark) and front (bright): float32 `2 3`."""
    return np.stack([rng.uniform(0, 60, 3), rng.uniform(195, 255, 3)]).astype(np.float32)


def _disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) * 1.2


def _diamond(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.abs(u) + np.abs(v)) * 0.85


def _bar(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v) * 1.8)


SHAPES = (_disc, _square, _diamond, _bar)
