"""Which decoder decodes which video: DALI's where its frames are correct, PyAV in software for the rest.

                       CPU              GPU
    DALI               VP8, VP9         the codecs and sizes that NVDEC decodes according to the driver (`nvdec`)
    software           all others       all others, such as MJPEG and folders of frames

Videos that are turned or mirrored, change in mid-stream, or have hidden packets, negative times, or times that do not
give the order of their frames (`Video.packets`), which shift DALI's frame numbers: software. So are on a CPU those with
colors other than BT.601's, or a tag of where chroma lies, which DALI ignores; on a GPU, its colors are corrected
(`_colors`).
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ..errors import UserError, unknown
from ..spec import Decoder, Device
from . import _cropping, nvdec
from ._colors import WEIGHTS, stated_to_nvdec
from ._files import flat

if TYPE_CHECKING:
    import pandas as pd

    from .index import Index


# DALI's CPU decoder decodes MJPEG too, but a corrupt frame there crashes the process.
CPU_CODECS = ("vp8", "vp9")
# Pixel formats, with their bit depth, whose colors DALI decodes correctly: it always has NVDEC output 8-bit 4:2:0.
BITS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10, "yuv420p12le": 12}
BLOCK = 16  # pixels; encoders pad frames to multiples of at most this (interlaced: 32, which the index has)


def choose(index: Index, decoder: str, device: Device, sampling: str) -> str:
    """Return `dali` or `software`; for `auto` the one measured to be fastest, else the first one of `decoders`.

    `sampling` is that of the `Clip`. Raises UserError if the decoder is unknown, or it is `dali`, which knows none of
    the codecs, or on a GPU decodes none of the videos.
    """
    check(index, decoder, device)
    if decoder == "dali" and "dali" not in decoders(index, device):
        _print_once("decoder dali: none of the files is one that it shows rightly: they are decoded in software")
        return "software"
    if decoder != "auto":
        return decoder
    from . import _decoder_cache

    able = decoders(index, device)
    measured = _decoder_cache.recall(index, device, "segments" if sampling in ("segments", "uniform") else "dense")
    return measured if measured in able else able[0]


def check(index: Index, decoder: str, device: Device) -> None:
    """Raise UserError if the decoder is unknown, or it is `dali`, which on this device knows none of the codecs."""
    if decoder not in get_args(Decoder):
        raise unknown("decoder", decoder, get_args(Decoder))
    known = device == "cpu" and _of_cpu_codecs(index).any()
    if decoder == "dali" and not known and "dali" not in decoders(index, device):
        codecs = ", ".join(sorted(set(index.table["codec"])))
        raise UserError(
            f"decoder dali: DALI on this {device} decodes none of the files ({codecs}), or not their size: use "
            "`auto`; `reelbench doctor` lists what this GPU decodes"
        )


def decoders(index: Index, device: Device) -> tuple[Literal["dali", "software"], ...]:
    """Return the decoders that can read an index on a device, the probably faster one first.

    DALI is among them if it decodes any of the videos; the other videos are then decoded in software.
    """
    supported_rows = supported(index, device)
    if not supported_rows.any():
        return ("software",)
    return ("dali", "software") if 2 * supported_rows.sum() >= len(supported_rows) else ("software", "dali")


def supported(index: Index, device: Device) -> np.ndarray:
    """Return for each row whether DALI decodes it correctly on a device (bool, N).

    On a GPU, this also depends on the sizes that the process decodes already (`register_nvdec`).
    """
    table = index.table
    pts, ends = flat(table["pts"])
    early = pts[np.append(0, ends[:-1])] < 0 if len(ends) else np.zeros(0, bool)
    plain = (
        ~early
        & (table["hidden"].to_numpy() == 0)
        & (np.diff(flat(table["packets"])[1], prepend=0) == 0)
        & (table["rotation"].to_numpy() == 0)
        & ~table["flipped"].to_numpy(bool)
        & ~table["changes"].to_numpy(bool)
    )
    if device == "cuda":
        return _on_gpu(table, plain)
    corrected = table["color_matrix"].isin(WEIGHTS) | table["sited"]
    return plain & _of_cpu_codecs(index) & ~corrected.to_numpy(bool)


def _of_cpu_codecs(index: Index) -> np.ndarray:
    return index.table["codec"].isin(CPU_CODECS).to_numpy(bool)


def register_nvdec(index: Index, rows: np.ndarray) -> None:
    """Record that this process decodes these rows (bool, N) with NVDEC: DALI caches sessions of their sizes."""
    table, sizes = index.table[rows], _sizes(index.table)[rows]
    for codec in set(table["codec"]):
        _nvdec_sizes.setdefault(codec, set()).update(
            map(tuple, sizes[(table["codec"] == codec).to_numpy(dtype=bool)].tolist())
        )


_nvdec_sizes: dict[str, set[tuple[int, ...]]] = {}  # codec -> (width, height, coded width, coded height)


def _on_gpu(table: pd.DataFrame, plain: np.ndarray) -> np.ndarray:
    """Return which of the `plain` rows DALI decodes correctly with NVDEC (bool, N)."""
    codecs, formats, ranges = (table[n].to_numpy(dtype=object) for n in ("codec", "pix_fmt", "color_range"))
    sizes, supported_rows = _sizes(table), np.zeros(len(table), bool)
    try:
        for codec, pix_fmt, color_range in set(zip(codecs, formats, ranges, strict=True)):
            if pix_fmt not in BITS or not stated_to_nvdec(codec, color_range):
                continue
            if limits := nvdec.limits(codec, BITS[pix_fmt]):
                rows = (codecs == codec) & (formats == pix_fmt) & (ranges == color_range)
                supported_rows |= rows & limits.fit(sizes[:, :2], sizes[:, 2:])
    except nvdec.Unavailable as error:
        _print_once(f"{error}: videos are decoded in software, by PyAV")
        return np.zeros(len(table), bool)
    supported_rows &= plain
    for codec in set(codecs[supported_rows]):
        rows = np.flatnonzero(supported_rows & (codecs == codec))
        supported_rows[
            rows[
                _gets_wrong_session(sizes[rows], np.array(sorted(_nvdec_sizes.get(codec, ())), np.int64).reshape(-1, 4))
            ]
        ] = False
    return supported_rows


def _sizes(table: pd.DataFrame) -> np.ndarray:
    """Return the width and height that DALI is shown, coded width and height (N x 4).

    Unknown coded sizes are rounded up to blocks; DALI is shown the whole width where its cropping is removed.
    """
    names = ("width", "height", "coded_width", "coded_height")
    sizes = np.stack([table[name].to_numpy(dtype=np.int64) for name in names], axis=1)
    uncropped = _cropping.on_the_right(table)
    sizes[uncropped, 0] = sizes[uncropped, 2]
    sizes[:, 2:] = np.maximum(sizes[:, 2:], -(-sizes[:, :2] // BLOCK) * BLOCK)
    return sizes


def _gets_wrong_session(sizes: np.ndarray, nvdec_sizes: np.ndarray) -> np.ndarray:
    """Return which videos of one codec (N x 4) would be given an NVDEC session of another height by DALI (bool, N).

    DALI stores a session under the shown size and looks it up by the coded size. So a video whose height is below its
    coded height may be given the session of a taller video, and its chroma is then read from wrong rows
    (docs/dali-nvdec-cache.md). Such a video is decoded in software, unless it was first (`nvdec_sizes`, M x 4):
    then the taller one is.
    """
    kinds, rows = np.unique(sizes, axis=0, return_inverse=True)
    lenders = np.concatenate([kinds, nvdec_sizes])
    found = [bool(_lends(lenders, kind).any() or _lends(kind, nvdec_sizes).any()) for kind in kinds]
    return np.array(found, bool)[rows.reshape(-1)]


def _lends(lender: np.ndarray, borrower: np.ndarray) -> np.ndarray:
    """Return whether DALI may give the session of size `lender` to a lower size `borrower` (each ... x 4).

    DALI looks sessions up by NVDEC's coded size, of which FFmpeg's is an upper bound.
    """
    width, height, (shown, coded) = lender[..., 0], lender[..., 1], (borrower[..., :2], borrower[..., 2:])
    within = (width >= shown[..., 0]) & (width <= coded[..., 0]) & (height <= coded[..., 1])
    return within & (height > shown[..., 1])


@cache
def _print_once(message: str) -> None:
    """Print a message once per machine: from its first rank."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(message, file=sys.stderr)
