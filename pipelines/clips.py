"""Frame sampling and crop boxes: which frames and which region of a video a model sees. No pixels are touched.

The rules are those of MMAction2 1.2 (`SampleFrames`, `DenseSampleFrames`, `UniformSample`, `ThreeCrop`, …), shared
by TSN, TSM, SlowFast and Video Swin. Frames are positions in presentation order, from 0; `total` is the number of
frames of the video. A box is `(x0, y0, x1, y1)` in pixels, the last two exclusive. `draw` is
`numpy.random.Generator.integers`: `draw(low, high, size)`, `high` exclusive.

A clip that goes beyond the video's end loops the video (`out_of_bound="loop"`), or repeats the clip's last valid frame:

    video 0 1 2 3 4       loop          repeat_last
    clip  0 2 4 6 8  ->   0 2 4 1 3     0 2 4 4 4
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..spec import OutOfBound

Box = tuple[float, float, float, float]
Draw = Callable[..., Any]

SCALES = (1.0, 0.875, 0.75, 0.66)


def random_starts(total: int, span: int, clips: int, draw: Draw) -> np.ndarray:
    """Return the first frame of each of `clips` clips for training (`SampleFrames`).

    The video is divided into equal parts, and each clip starts at random in its part; `span` is length x stride.

        total 12, span 1, clips 3:   |....|....|....|     one start drawn in each part of (total - span + 1) // clips

    Frames after the last whole part are never a start, as in the official code. With fewer possible starts than clips,
    starts repeat: sorted random ones if total > max(clips, span), else evenly spaced ones. In a video shorter than the
    span, all are 0.
    """
    room = total - span + 1
    part = room // clips
    if part > 0:
        return np.arange(clips) * part + draw(part, size=clips)
    if total > max(clips, span):
        return np.sort(draw(room, size=clips))
    if part == 0:
        return np.around(np.arange(clips) * (room / clips)).astype(int)
    return np.zeros(clips, dtype=int)


def even_starts(total: int, length: int, stride: int, clips: int, *, twice: bool = False) -> np.ndarray:
    """Return the first frame of each of `clips` clips (2 x clips with `twice`) for testing (`SampleFrames`, test mode).

    Single frames lie in the middle of their segment, and `twice` adds each segment's beginning; longer clips are
    spread from the first possible start to the last, a single one in the middle.

        segments  |..x..|..x..|..x..|       dense  xxxx..xxxx..xxxx   (length 4, stride 1, clips 3)

    The starts of segments are not whole numbers: `frames_at` rounds down after the out-of-bound rule. With `twice`,
    starts of longer clips may lie past the end, where the out-of-bound rule applies, as in the official code.
    """
    if length == 1:
        tick = total / clips
        middle = np.arange(clips) * tick + tick / 2
        return np.concatenate([middle, np.arange(clips) * tick]) if twice else middle
    last = max(total - ((length - 1) * stride + 1), 0)
    if clips == 1:
        return np.full(2 if twice else 1, last // 2)
    return np.round(np.arange(clips * (2 if twice else 1)) * (last / (clips - 1)))


def middle_starts(total: int, span: int, clips: int) -> np.ndarray:
    """Return the first frame of each of `clips` clips for testing, as MMAction 0 did (Video Swin, TPS, DualFormer).

    The range of starts is divided into equal parts, in the middle of which the clips start; `span` is length x stride.

        clips 3   |..s..|..s..|..s..|xxxxx        a video shorter than the span starts at 0
    """
    part = (total - span + 1) / clips
    return (np.arange(clips) * part + part / 2).astype(int) if total >= span else np.zeros(clips, dtype=int)


def window(total: int, length: int, stride: int, clips: int = 1, draw: Draw | None = None) -> np.ndarray:
    """Return `length` frames spread over length x stride, both ends included (VideoTransformer): clips x length.

        length 4, stride 2 (span 8):   f.f.f..f      a shorter video is spread over whole

    Training (with `draw`) samples the start of one clip and ignores `clips`. The official code samples in testing too;
    here test clips are spread evenly from the first start to the last, a single one in the middle.
    """
    room = max(0, total - length * stride - 1)
    if draw is not None:
        starts = np.array([int(draw(0, room + 1))])
    else:
        starts = np.array([room // 2]) if clips == 1 else np.linspace(0, room, clips).astype(int)
    ends = np.minimum(starts + length * stride, total) - 1
    return np.stack([np.linspace(*pair, length) for pair in zip(starts, ends, strict=True)]).astype(np.int32)


def frames_at(
    starts: np.ndarray, length: int, stride: int, total: int, out_of_bound: OutOfBound = "loop"
) -> np.ndarray:
    """Return the frames of the clips that begin at `starts`: int32, clips x length. Fractions are rounded down.

    length 4, stride 2:   fxfxfxf        beyond the end of the video by `out_of_bound`
    """
    frames = np.asarray(starts)[:, None] + np.arange(length) * stride
    if out_of_bound == "loop":
        return np.mod(frames, total).astype(np.int32)
    inside = frames < total
    last = np.where(inside, frames, 0).max(axis=1, keepdims=True)
    return np.where(inside, frames, last).astype(np.int32)


def segments_even(total: int, length: int, clips: int = 1) -> np.ndarray:
    """Return `clips` clips of one frame a segment for testing (TSN, TSM): clips x length.

    One clip takes the middle of each segment, a second one (`twice_sample`) the beginning. More than two, for which
    there is no official rule, divide each segment evenly:

        1 clip  |--x--|--x--|      2 clips  |y-x--|y-x--|      3 clips  |x-y-z|x-y-z|
    """
    tick = total / length
    if clips <= 2:
        starts = even_starts(total, 1, 1, length, twice=clips == 2).reshape(clips, length)
    else:
        starts = (np.arange(length) + (np.arange(clips)[:, None] + 0.5) / clips) * tick
    return starts.astype(np.int32)


def dense_sample(
    total: int, segments: int, positions: int = 10, sample_range: int = 64, draw: Draw | None = None
) -> np.ndarray:
    """Return frames spread over `sample_range` (`DenseSampleFrames`): positions x segments; one row when training.

    sample_range 8, segments 4:   fxfxfxfx.........      and again from each of `positions` starts

    The stride is sample_range // segments; a shorter video is looped. Training (with `draw`) samples one start, never
    the last possible one, as in the official code.
    """
    room = max(1, 1 + total - sample_range)
    if draw is None:
        starts = np.linspace(0, room - 1, positions, dtype=int)
    else:
        starts = np.array([0 if room == 1 else int(draw(0, room - 1))])
    return frames_at(starts, segments, sample_range // segments, total)


def uniform_random(total: int, length: int, draw: Draw) -> np.ndarray:
    """Return one frame drawn in each of `length` segments, ends included (`UniformSample`, training): 1 x length."""
    edges = _edges(total, length)
    return np.array([[int(draw(low, high + 1)) for low, high in zip(edges[:-1], edges[1:], strict=True)]], np.int32)


def uniform_even(total: int, length: int, clips: int = 1) -> np.ndarray:
    """Return `clips` clips of one frame a segment (`UniformSample`, test mode): clips x length.

    The segments share their ends; clip k takes the (k + 1)-th of the points that divide a segment into clips + 1 parts:

        clips 1   |--x--|--x--|        clips 2   |-x-y-|-x-y-|
    """
    segment = (total - 1) / length
    inside = [int(segment / (clips + 1) * (k + 1)) for k in range(clips)]
    return (_edges(total, length)[:-1] + np.array(inside)[:, None]).astype(np.int32)


def _edges(total: int, length: int) -> np.ndarray:
    return np.round((total - 1) / length * np.arange(length + 1)).astype(int)


def rescale(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Return (width, height) after a resize of the short side (`mmcv.rescale_size`): int(x * factor + 0.5)."""
    factor = short_side / min(width, height)
    return int(width * factor + 0.5), int(height * factor + 0.5)


def in_source(box: Box, resized: tuple[int, int], source: tuple[int, int]) -> Box:
    """Map a box from the resized frame to the source frame, so that resize and crop become one resampling.

    `resized` and `source` are the frames' (width, height); the returned edges may be fractional. A crop of the resized
    frame samples the same points as this box: pixel centers map to pixel centers.
    """
    x, y = source[0] / resized[0], source[1] / resized[1]
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def center_crop(width: int, height: int, size: int) -> list[Box]:
    """Return one centered `size` x `size` box (x0, y0, x1, y1), in a list; offsets are rounded down."""
    return [_square((width - size) // 2, (height - size) // 2, size)]


def three_crop(width: int, height: int, size: int) -> list[Box]:
    """Return three boxes along the long side: first, last, middle. Along the short side they are centered.

        +-------+---+-------+
        |   0   | 2 |   1   |       the step is (long - size) // 2, so an odd pixel is left at the end
        +-------+---+-------+

    The official code allows no other short side than `size`, where centering has no effect.
    """
    if height <= width:
        step, y = (width - size) // 2, (height - size) // 2
        return [_square(x, y, size) for x in (0, 2 * step, step)]
    step, x = (height - size) // 2, (width - size) // 2
    return [_square(x, y, size) for y in (0, 2 * step, step)]


def ten_crop(width: int, height: int, size: int) -> list[Box]:
    """Return five boxes, each to be used plain and then flipped: the corners row by row, then the center."""
    x, y = (width - size) // 4, (height - size) // 4
    return [_square(a * x, b * y, size) for a, b in ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))]


def random_crop(width: int, height: int, size: int, draw: Draw) -> Box:
    """Return a random `size` x `size` box within the frame; also at the last position, unlike the official code."""
    return _square(int(draw(width - size + 1)), int(draw(height - size + 1)), size)


def random_resized_crop(
    width: int,
    height: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """Return a box of random area and aspect ratio (`RandomResizedCrop`): ten tries, then the center square.

    `area` is the range of the box's share of the frame, `ratio` that of its width / height (sampled in log space).
    """
    aspects = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), 10))
    areas = rng.uniform(*area, 10) * width * height
    widths = np.round(np.sqrt(areas * aspects)).astype(int)
    heights = np.round(np.sqrt(areas / aspects)).astype(int)
    for w, h in zip(widths.tolist(), heights.tolist(), strict=True):
        if 0 < w <= width and 0 < h <= height:
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return x, y, x + w, y + h
    return center_crop(width, height, min(width, height))[0]


def multi_scale_crop(width: int, height: int, size: int, draw: Draw) -> Box:
    """Return one of the sizes of `multi_scale_sizes`, at one of thirteen fixed positions (`MultiScaleCrop`).

    The positions are the corners, the middles of the sides, the center, and the four points halfway to the corners:

        o . o . o
        . o . o .
        o . o . o
        . o . o .
        o . o . o
    """
    sizes = multi_scale_sizes(width, height, size)
    w, h = sizes[int(draw(len(sizes)))]
    x, y = (width - w) // 4, (height - h) // 4
    places = [(a, b) for b in range(5) for a in range(5) if (a + b) % 2 == 0]
    a, b = places[int(draw(len(places)))]
    return a * x, b * y, a * x + w, b * y + h


def multi_scale_sizes(width: int, height: int, size: int) -> list[tuple[int, int]]:
    """Return the ten (width, height) pairs: the short side times `SCALES`, at most one step apart.

    A side within 3 pixels of `size` becomes `size`, which avoids resampling.
    """
    sides = [int(min(width, height) * scale) for scale in SCALES]
    sides = [size if abs(side - size) < 3 else side for side in sides]
    return [(w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]


def _square(x: int, y: int, size: int) -> Box:
    return x, y, x + size, y + size
