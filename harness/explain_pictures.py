"""Frames and maps as pictures: overlays side by side, written as a GIF, an MP4 or a PNG strip.

A panel is `T H W 3`, float in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import UserError

Panel = NDArray[np.float32]
FORMATS = (".gif", ".mp4", ".png")
STRIP = 8  # frames of a PNG
SMALLEST = 160  # pixels of a panel's side, below which its pixels are repeated


def overlay(frames: Panel, maps: NDArray[np.float32], alpha: float = 0.5) -> Panel:
    """Lay maps, `T H W` in 0..1, over the frames in matplotlib's magma."""
    return blend(frames, maps, alpha).clip(0, 1).astype(np.float32)


def blend(frames: Panel, maps: NDArray[np.float32], alpha: float) -> Panel:
    """Return `alpha` of the coloured map and the rest of the frame, not clipped."""
    from matplotlib import colormaps

    heat = colormaps["magma"](maps)[..., :3].astype(np.float32)
    return (alpha * heat + (1 - alpha) * frames).astype(np.float32)


def hide(frames: Panel, mask: NDArray[np.bool_]) -> Panel:
    """Grey out the masked patches: bool `t h w`, spread over the frames."""
    hidden = spread(mask, frames.shape[:3])
    return np.where(hidden[..., None], np.float32(0.5), frames)


def draw_hog(cells: NDArray[np.float32], side: int = 8) -> Panel:
    """Draw histograms, `T h w 27` (channel, then 9 orientations), as strokes in cells of `side` pixels.

    A stroke lies along the edge, across its gradient; brightness is the strongest channel's vote.
    """
    votes = cells.reshape(*cells.shape[:-1], 3, 9).max(-2)
    strokes = np.stack([_stroke(90 + 20 * b + 10, side) for b in range(9)])  # 9 side side
    picture = np.einsum("thwb,byx->thywx", votes.clip(0, None), strokes)
    t, h, _, w, _ = picture.shape
    grey = picture.reshape(t, h * side, w * side)
    grey = grey / max(float(grey.max()), 1e-6)
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)


def class_colours(labels: NDArray[np.int64]) -> Panel:
    """Give each class its colour: `T H W` of classes to a panel."""
    from matplotlib import colormaps

    kinds, index = np.unique(labels, return_inverse=True)
    hues = colormaps["hsv"](np.arange(len(kinds)) / max(len(kinds), 1))[:, :3]
    return hues[index.reshape(labels.shape)].astype(np.float32)


def write(panels: Sequence[Panel], to: Path, *, fps: float) -> None:
    """Write the panels side by side, in the format that the file's name ends in."""
    if to.suffix.lower() not in FORMATS:
        raise UserError(f"{to}: an explanation ends in {', '.join(FORMATS)}")
    to.parent.mkdir(parents=True, exist_ok=True)
    times = -(-SMALLEST // panels[0].shape[1])
    panels = [panel.repeat(times, axis=1).repeat(times, axis=2) for panel in panels]
    if to.suffix.lower() == ".png":
        _write_png(panels, to)
        return
    frames = (np.concatenate(panels, axis=2).clip(0, 1) * 255).round().astype(np.uint8)  # T H (panels W) 3
    writer = _write_gif if to.suffix.lower() == ".gif" else _write_mp4
    writer(frames, to, fps)


def _write_png(panels: Sequence[Panel], to: Path) -> None:
    """Panels below each other, a row each of up to eight frames."""
    from matplotlib.image import imsave

    chosen = np.linspace(0, len(panels[0]) - 1, min(STRIP, len(panels[0]))).round().astype(int)
    rows = [np.concatenate(list(panel[chosen]), axis=1) for panel in panels]
    imsave(to, np.concatenate(rows, axis=0).clip(0, 1))


def _write_gif(frames: NDArray[np.uint8], to: Path, fps: float) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(to, save_all=True, append_images=rest, duration=max(20, round(1000 / fps)), loop=0)


def _write_mp4(frames: NDArray[np.uint8], to: Path, fps: float) -> None:
    import av

    _, height, width, _ = frames.shape
    with av.open(str(to), "w") as file:
        stream = file.add_stream("h264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
        for frame in frames:
            picture = np.ascontiguousarray(frame[: stream.height, : stream.width])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))


def spread(values: NDArray, shape: Sequence[int]) -> NDArray:
    """Repeat a grid of `t h w` values to `T H W` pixels, nearest."""
    at = [np.arange(n) * k // n for n, k in zip(shape, values.shape, strict=True)]
    return values[np.ix_(*at)]


def _stroke(degrees: float, side: int) -> NDArray[np.float32]:
    """Return a line through the middle of a cell, its edges soft."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    angle = np.deg2rad(degrees)
    away = np.abs(x * np.sin(angle) - y * np.cos(angle))
    inside = np.hypot(x, y) <= side / 2
    return (np.clip(1 - away, 0, 1) * inside).astype(np.float32)
