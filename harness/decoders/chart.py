"""A color chart encoded as a video with a given color matrix and range; its colors are in every matrix's gamut."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ...pipelines._colors import MATRICES, RANGES
from ...pipelines._encode import CODECS, encode

# Codecs that store an odd number of pixels in 4:2:0, where the last chroma sample covers one pixel only.
ODD = ("vp8", "vp9", "mpeg4", "mjpeg")
PATCH = 32  # pixels; 192 in all: the smallest that NVDEC decodes of any codec is 144
FRAMES = 4
# The matrices that the chart can be converted by, as swscale numbers them.
SWSCALE = {
    "unknown": 5, "bt470bg": 5, "smpte170m": 5, "bt709": 1, "fcc": 4, "smpte240m": 7, "bt2020nc": 9, "bt2020c": 9,
}  # fmt: skip


def picture() -> np.ndarray:
    """Return the chart, 192 x 192 x 3 uint8: six by six patches from dark to light."""
    levels = [(r, g, b) for r in (60, 130, 190) for g in (60, 120, 160, 190) for b in (60, 130, 190)]
    return np.array(levels, np.uint8).reshape(6, 6, 3).repeat(PATCH, axis=0).repeat(PATCH, axis=1)


def film(path: Path, codec: str, matrix: str, color_range: str, odd: bool = False) -> Path:
    """Encode `FRAMES` frames of the chart in a matrix of `SWSCALE` and a range, `tv` or `pc`; return the path.

    With `odd`, which takes a codec of `ODD`, the frames lack their last column and row.
    """
    shown = np.ascontiguousarray(picture()[:-1, :-1]) if odd else picture()
    frames = (_frame(shown, number, CODECS[codec].pix_fmt, matrix, color_range) for number in range(FRAMES))
    encode(path, frames, codec=codec, fps=25, gop=2)
    return path


def _frame(shown: np.ndarray, number: int, pix_fmt: str, matrix: str, color_range: str) -> av.VideoFrame:
    full = color_range == "pc" or pix_fmt.startswith("yuvj")
    frame = av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(
        format=pix_fmt, dst_colorspace=SWSCALE[matrix], dst_color_range=2 if full else 1
    )
    frame.colorspace, frame.color_range = MATRICES.index(matrix), RANGES.index(color_range)
    frame.pts, frame.time_base = number, Fraction(1, 25)
    return frame
