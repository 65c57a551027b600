"""Draw frames and maps: overlays side by side, written as a GIF, an MP4 or a PNG strip.

A panel is `T H W 3`, float in 0..1.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Panel = NDArray[np.float32]
Color = tuple[float, ...]  # red, green, blue in 0..1
NO_LEGEND: Mapping[str, Color] = MappingProxyType({})
FORMATS = (".gif", ".mp4", ".png")
STRIP = 8  # frames of a PNG
ONE_ROW = 5  # panels; more are wrapped into a grid about twice as wide as high
LINE, MARGIN = 20, 4  # pixels of a line of text, and around it
DARK = 0.2  # brightness outside of a mask
SAMPLE = 200_000  # pixels from which a GIF's palette is computed
SMALLEST = 160  # pixels of a panel's side; smaller panels are enlarged


def overlay(frames: Panel, maps: NDArray[np.float32], alpha: float = 0.5) -> Panel:
    """Overlay maps, `T H W` in 0..1, on the frames in matplotlib's magma."""
    return blend(frames, maps, alpha).clip(0, 1).astype(np.float32)


def blend(frames: Panel, maps: NDArray[np.float32], alpha: float) -> Panel:
    """Alpha-blend maps, `T H W` in 0..1, in magma over the frames; `alpha` is the maps' opacity. Nothing is clipped."""
    from matplotlib import colormaps

    heat = colormaps["magma"](maps)[..., :3].astype(np.float32)
    return (alpha * heat + (1 - alpha) * frames).astype(np.float32)


def hide(frames: Panel, mask: NDArray[np.bool_]) -> Panel:
    """Gray out the masked patches: bool `t h w`, True where hidden, spread over the frames."""
    hidden = spread(mask, frames.shape[:3])
    return np.where(hidden[..., None], np.float32(0.5), frames)


def cut_out(frames: Panel, mask: NDArray[np.float32]) -> Panel:
    """Darken what lies outside of a mask, `T H W` of 0 and 1."""
    return (frames * (DARK + (1 - DARK) * mask[..., None])).astype(np.float32)


def draw_hog(cells: NDArray[np.float32], side: int = 8) -> Panel:
    """Draw HOG cells, `T h w 27` (3 channels x 9 orientations), as strokes in squares of `side` pixels.

    Strokes are parallel to the edge (across the gradient). Brightness is the maximum over channels, relative to the
    brightest pixel of all T frames.
    """
    votes = cells.reshape(*cells.shape[:-1], 3, 9).max(-2)
    strokes = np.stack([_stroke(90 + 20 * b + 10, side) for b in range(9)])  # 9 side side
    picture = np.einsum("thwb,byx->thywx", votes.clip(0, None), strokes)
    t, h, _, w, _ = picture.shape
    gray = picture.reshape(t, h * side, w * side)
    gray = gray / max(float(gray.max()), 1e-6)
    return np.repeat(gray[..., None], 3, axis=-1).astype(np.float32)


def class_colors(labels: NDArray[np.int64]) -> tuple[Panel, dict[int, Color]]:
    """Color a class map `T H W`; return the panel and the color of each class in it, the most frequent first.

    Hues are spread over the classes that occur: a class may have another color in another map.
    """
    from matplotlib import colormaps

    kinds, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    hues = colormaps["hsv"](np.arange(len(kinds)) / max(len(kinds), 1))[:, :3].astype(np.float32)
    by_count = np.argsort(-counts, kind="stable")
    return hues[index.reshape(labels.shape)], {int(kinds[i]): tuple(hues[i].tolist()) for i in by_count}


def write(panels: Mapping[str, Panel], to: Path, *, fps: float, legend: Mapping[str, Color] = NO_LEGEND) -> None:
    """Write panels by their titles, in the format of the suffix of `to`, with a legend of their colors.

    GIF and MP4: panels, all of one shape, side by side (wrapped), at `fps` frames per second (a GIF's at most 50). PNG:
    one row per panel, of up to eight frames, evenly spaced. Small panels are enlarged, and entries of the legend that
    do not fit the width are left out. Raises UserError for a suffix that is none of `FORMATS`; the folder must exist.
    """
    from matplotlib.image import imsave

    if to.suffix.lower() not in FORMATS:
        raise UserError(f"{to}: an explanation ends in {', '.join(FORMATS)}")
    large = {title: _enlarged(panel) for title, panel in panels.items()}
    if to.suffix.lower() == ".png":
        imsave(to, _with_legend(_strips(large)[None], legend)[0])
        return
    frames = _with_legend(_side_by_side(large), legend)
    writer = _write_gif if to.suffix.lower() == ".gif" else _write_mp4
    writer(frames, to, fps)


def _enlarged(panel: Panel) -> NDArray[np.uint8]:
    times = -(-SMALLEST // panel.shape[1])
    return (panel.clip(0, 1) * 255).round().astype(np.uint8).repeat(times, axis=1).repeat(times, axis=2)


def _strips(panels: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return one image, `H W 3`: a row per panel, of evenly spaced frames."""
    rows = []
    for title, panel in panels.items():
        chosen = panel[np.linspace(0, len(panel) - 1, min(STRIP, len(panel))).round().astype(int)]
        row = np.concatenate(list(chosen), axis=1)
        rows += [_text([title], row.shape[1]), row]
    return np.concatenate(rows)


def _side_by_side(panels: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return video frames, `T H W 3`: panels in rows, the last row padded with white."""
    length, _, width, _ = next(iter(panels.values())).shape
    titles = {title: textwrap.wrap(title, int((width - 2 * MARGIN) / _font().getlength("n"))) for title in panels}
    lines = max(map(len, titles.values()))
    cells = []
    for title, panel in panels.items():
        heading = _text(titles[title] + [""] * (lines - len(titles[title])), width)
        cells.append(np.concatenate((np.broadcast_to(heading, (length, *heading.shape)), panel), axis=1))
    columns = len(cells) if len(cells) <= ONE_ROW else math.ceil((2 * len(cells)) ** 0.5)
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.concatenate(cells[i : i + columns], axis=2) for i in range(0, len(cells), columns)]
    return np.concatenate(rows, axis=1)


def _with_legend(frames: NDArray[np.uint8], legend: Mapping[str, Color]) -> NDArray[np.uint8]:
    """Add a line of names below `T H W 3`, each behind a square of its color; those that do not fit are left out."""
    if not legend:
        return frames
    line, x = _text([""], frames.shape[2]), MARGIN
    for name, color in legend.items():
        end = x + LINE + round(_font().getlength(name)) + 2 * MARGIN
        if end > line.shape[1]:
            break
        line[:, x + LINE : end] = _text([name], end - x - LINE)
        line[MARGIN:-MARGIN, x : x + LINE - MARGIN] = np.round(255 * np.array(color))
        x = end + MARGIN
    return np.concatenate((frames, np.broadcast_to(line, (len(frames), *line.shape))), axis=1)


def _text(lines: Sequence[str], width: int) -> NDArray[np.uint8]:
    """Return lines of text, black on white: `(LINE lines) W 3`."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (width, LINE * len(lines)), "white")
    for row, line in enumerate(lines):
        ImageDraw.Draw(picture).text((MARGIN, LINE * (row + 0.5)), line, "black", _font(), anchor="lm")
    return np.array(picture)


@lru_cache(maxsize=1)
def _font() -> FreeTypeFont:
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13)


def _write_gif(frames: NDArray[np.uint8], to: Path, fps: float) -> None:
    from PIL import Image

    # One palette for all frames, from a sample of their pixels: a palette a frame flickers, and costs seconds.
    pixels = frames.reshape(-1, 3)
    palette = Image.fromarray(pixels[:: max(1, len(pixels) // SAMPLE)][None]).quantize(256)
    first, *rest = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
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
