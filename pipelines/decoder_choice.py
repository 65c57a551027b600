"""Which decoder shows which video: DALI's where it shows it rightly, PyAV's in software for the rest.

                       CPU              GPU
    DALI               VP8, VP9         what the driver says that NVDEC decodes (`nvdec`), at the sizes it says
    software           all else         all else; MJPEG and folders of frames, which DALI's GPU decoder lacks

On both, a video with hidden or early frames (they would shift its numbers) or a rotation is decoded in software.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import UserError, unknown
from . import nvdec
from ._colors import WEIGHTS, stated_to_nvdec
from ._files import flat

if TYPE_CHECKING:
    import pandas as pd

    from .index import Index

Device = Literal["cpu", "cuda"]
Decoder = Literal["auto", "dali", "software"]

# DALI's CPU decoder knows MJPEG too, but a damaged picture there takes the whole process down.
CPU_CODECS = ("vp8", "vp9")
# The pixel formats that DALI makes right colors of: it has NVDEC write 4:2:0 of 8 bit, whatever is stored.
BITS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10, "yuv420p12le": 12}
BLOCK = 16  # pixels to whose multiples an encoder fills up a picture, at most (interlaced: 32, which the index knows)


def choose(index: Index, decoder: str, device: Device, sampling: str) -> str:
    """Return the decoder's name: the one that was measured to be the fastest here, else DALI's where it mostly can."""
    if decoder not in ("auto", "dali", "software"):
        raise unknown("decoder", decoder, ("auto", "dali", "software"))
    able = decoders(index, device)
    if decoder == "auto":
        from . import _decoder_cache

        measured = _decoder_cache.recall(index, device, "segments" if sampling in ("segments", "uniform") else "dense")
        return measured if measured in able else able[0]
    if decoder not in able:
        codecs = ", ".join(sorted(set(index.table["codec"])))
        raise UserError(
            f"decoder dali: DALI on this {device} decodes none of the files ({codecs}), or not at their size: leave it "
            "to `auto`; `reelbench doctor` says what a GPU decodes"
        )
    return decoder


def decoders(index: Index, device: Device) -> tuple[Literal["dali", "software"], ...]:
    """Return the decoders of a device that can read the index, the likelier one first.

    DALI's is among them if it knows any of the files; software decodes the odd others then.
    """
    able = known(index, device)
    if not able.any():
        return ("software",)
    # The correction of colors costs DALI's lead on a CPU, and nothing on a GPU.
    likely = able & ~index.table["color_matrix"].isin(WEIGHTS).to_numpy(bool) if device == "cpu" else able
    return ("dali", "software") if 2 * likely.sum() >= len(able) else ("software", "dali")


def known(index: Index, device: Device) -> np.ndarray:
    """Return for each row whether DALI decodes it rightly on a device (bool)."""
    table = index.table
    pts, ends = flat(table["pts"])
    early = pts[np.append(0, ends[:-1])] < 0 if len(ends) else np.zeros(0, bool)
    plain = ~early & (table["hidden"].to_numpy() == 0) & (table["rotation"].to_numpy() == 0)
    if device == "cuda":
        return _on_gpu(table, plain)
    return plain & table["codec"].isin(CPU_CODECS).to_numpy(dtype=bool)


def remember(index: Index, rows: np.ndarray) -> None:
    """Keep in mind that this process gives these rows (bool) of an index to NVDEC: DALI keeps their sessions."""
    table, sizes = index.table[rows], _sizes(index.table)[rows]
    for codec in set(table["codec"]):
        _given.setdefault(codec, set()).update(
            map(tuple, sizes[(table["codec"] == codec).to_numpy(dtype=bool)].tolist())
        )


_given: dict[str, set[tuple[int, ...]]] = {}  # shown and coded size, by codec


def _on_gpu(table: pd.DataFrame, plain: np.ndarray) -> np.ndarray:
    """Return which of the plain rows DALI decodes rightly with NVDEC."""
    codecs, formats, ranges = (table[n].to_numpy(dtype=object) for n in ("codec", "pix_fmt", "color_range"))
    sizes, able = _sizes(table), np.zeros(len(table), bool)
    try:
        for codec, pix_fmt, color_range in set(zip(codecs, formats, ranges, strict=True)):
            if pix_fmt not in BITS or not stated_to_nvdec(codec, color_range):
                continue
            if limits := nvdec.limits(codec, BITS[pix_fmt]):
                rows = (codecs == codec) & (formats == pix_fmt) & (ranges == color_range)
                able |= rows & limits.fit(sizes[:, :2], sizes[:, 2:])
    except nvdec.Unavailable as error:
        _say(f"{error}: videos are decoded in software, by PyAV")
        return np.zeros(len(table), bool)
    able &= plain
    for codec in set(codecs[able]):
        rows = np.flatnonzero(able & (codecs == codec))
        able[rows[_mistaken(sizes[rows], np.array(sorted(_given.get(codec, ())), np.int64).reshape(-1, 4))]] = False
    return able


def _sizes(table: pd.DataFrame) -> np.ndarray:
    """Return N x 4: the width and height that are shown, then those that are coded, or else may be."""
    names = ("width", "height", "coded_width", "coded_height")
    sizes = np.stack([table[name].to_numpy(dtype=np.int64) for name in names], axis=1)
    sizes[:, 2:] = np.maximum(sizes[:, 2:], -(-sizes[:, :2] // BLOCK) * BLOCK)
    return sizes


def _mistaken(sizes: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return which videos of one codec (N x 4) share an NVDEC session with another height in DALI (bool).

    DALI files a session under the size that is shown and looks for it by the coded size. So a video whose shown height
    is below its coded one is given the session of a video that is shown that high, and its chroma is then read at
    wrong rows (docs/dali-nvdec-cache.md). It is kept away from NVDEC, unless it came first (`given`, M x 4): then the
    taller one is.
    """
    kinds, rows = np.unique(sizes, axis=0, return_inverse=True)
    lenders = np.concatenate([kinds, given])
    found = [bool(_lends(lenders, kind).any() or _lends(kind, given).any()) for kind in kinds]
    return np.array(found, bool)[rows.reshape(-1)]


def _lends(lender: np.ndarray, borrower: np.ndarray) -> np.ndarray:
    """Return whether DALI may give one size's session to a lower one (... x 4).

    That is looked for by NVDEC's coded size, of which FFmpeg's is the upper bound.
    """
    width, height, (shown, coded) = lender[..., 0], lender[..., 1], (borrower[..., :2], borrower[..., 2:])
    within = (width >= shown[..., 0]) & (width <= coded[..., 0]) & (height <= coded[..., 1])
    return within & (height > shown[..., 1])


@cache
def _say(message: str) -> None:
    """Tell people once: in the first process of a machine."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(message, file=sys.stderr)
