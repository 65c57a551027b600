"""Draws a sprite whose class is a motion, so that neither a frame nor an unordered heap of frames tells the class.

A sprite has four coordinates, each on a loop: across, down, angle and size (which starts again small after its
largest). In every video three of them take evenly spaced values along a stretch of their loop, which begins anywhere,
and one rests. The class's coordinate takes its values in order; the other two go there and back:

    time        0 1 2 3 4 5 6 7
    class       0 1 2 3 4 5 6 7    or, in the opposite class, 7 6 5 4 3 2 1 0
    others      0 2 4 6 7 5 3 1    each entered at a random moment, in either direction

So at any moment, the first too, each coordinate is uniform on its loop whatever the class: a frame is worth nothing.
Frames without their order show which coordinate rests, so that six classes remain: 1 in 6 is the best there is without
time, where chance is 1 in 8, and who does better has seen motion.

The harder classes are pairs of motions, one after the other, of the sprite with the red front, the second along the
coordinate that follows the first's, while the others rest; a sprite with a blue front moves by a pair of its own. Half
way both leap to any other place: had the second motion to begin where the first ended, the corner of their path would
tell both directions. So who sees frames but not their order finds at most which coordinates took part: 1 in 4, where
chance is 1 in 16.
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
OTHERS = 1  # sprites beside the one that counts
RADIUS = (0.18, 0.42)  # of the short side
SPAN = (0.5, 0.8)  # of a loop
HALF_SPAN = (0.25, 0.4)  # of one motion of a pair, which is seen at half as many frames


def draw(motion: str, rng: np.random.Generator, *, frames: int, size: tuple[int, int]) -> np.ndarray:
    """Return one video, uint8 `T H W 3`. `size` is (width, height); all randomness comes from `rng`."""
    background = _background(rng, frames, size)
    colours = _colours(rng)
    shape = rng.integers(len(SHAPES))
    return _paint(background, coordinates(motion, rng, frames), shape, colours).astype(np.uint8)


def draw_pair(pair: str, rng: np.random.Generator, *, frames: int, size: tuple[int, int]) -> np.ndarray:
    """Return one video of the harder classes, uint8 `T H W 3`: a red sprite moves by `pair`, in front of the others."""
    video = _background(rng, frames, size)
    names = list(PAIRS)
    blue = [names[i] for i in rng.integers(len(names), size=OTHERS)]
    for name, channel in [*((name, 2) for name in blue), (pair, 0)]:
        colours = _colours(rng)
        colours[1, [1, 2 - channel]] -= 195  # of the bright front, one channel stays
        video = _paint(video, pair_coordinates(name, rng, frames), rng.integers(len(SHAPES)), colours)
    return video.astype(np.uint8)


def _paint(video: np.ndarray, place: np.ndarray, shape: np.integer, colours: np.ndarray) -> np.ndarray:
    """Return a video, float32 `T H W 3`, with a sprite in front of it at coordinates `4 T`."""
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
    sprite = colours[0] + (colours[1] - colours[0]) * front
    return video + (sprite - video) * inside


def coordinates(
    motion: str, rng: np.random.Generator, frames: int, *, span: tuple[float, float] = SPAN, others: int = 2
) -> np.ndarray:
    """Return the four coordinates over time, float32 `4 T` in [0, 1), `others` of which go there and back.

    The class decides their order in time alone.
    """
    place = np.repeat(rng.random((4, 1)), frames, axis=1)
    moving, direction = MOTIONS[motion]
    steps = max(frames - 1, 1)
    place[moving] += rng.uniform(*span) * np.arange(frames)[::direction] / steps
    for other in (moving + rng.permutation([1, 2, 3])[:others]) % 4:
        place[other] += rng.uniform(*span) * _there_and_back(frames, rng) / steps
    return (place % 1).astype(np.float32)


def pair_coordinates(pair: str, rng: np.random.Generator, frames: int) -> np.ndarray:
    """Return the four coordinates of one motion and then another, which begins anywhere: `4 T`."""
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
    """Return a soft random texture that drifts on its own, float32 `T H W 3`."""
    width, height = size
    texture = _smooth_noise(rng, height, width)
    drift = rng.uniform(-0.6, 0.6, (2, 1)) * np.arange(frames) + rng.uniform(0, max(size), (2, 1))
    rows = (np.arange(height) + drift[0].round().astype(int)[:, None]) % height
    columns = (np.arange(width) + drift[1].round().astype(int)[:, None]) % width
    return texture[rows[:, :, None], columns[:, None, :]]


def _smooth_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a seamless texture of low contrast: noise of six cells a side, interpolated around the edges."""
    cells = 6
    noise = rng.uniform(-20, 20, (cells, cells, 3)) + rng.uniform(110, 146, 3)
    for axis, length in ((0, height), (1, width)):
        position = np.arange(length) * cells / length
        low = position.astype(int)
        weight = (position - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first, second = noise.take(low, axis), noise.take((low + 1) % cells, axis)
        noise = first + (second - first) * weight
    return noise.astype(np.float32)


def _colours(rng: np.random.Generator) -> np.ndarray:
    """Return the colours of the sprite's back and front, one dark and one bright: float32 `2 3`."""
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
