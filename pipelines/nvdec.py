"""What the GPU's video decoder (NVDEC) decodes, asked of the driver: codecs, bit depths, sizes, and its engines.

    nvdec.limits("hevc", 10)        # Limits(least=(144, 144), most=(8192, 8192), …), or None: not decoded
    nvdec.engines()                 # 7 on an H100

`cuvidGetDecoderCaps` of NVIDIA's Video Codec SDK (cuviddec.h) answers. A process decodes on one GPU, so each answer is
remembered.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np

# `cudaVideoCodec` of what DALI's GPU decoder takes: NVDEC's MPEG-2, VC-1 and JPEG are not among it.
CODECS = {"mpeg4": 2, "h264": 4, "hevc": 8, "vp8": 9, "vp9": 10, "av1": 11}
BITS = (8, 10, 12)
YUV420 = 1  # `cudaVideoChromaFormat`
NV12 = 1  # bit 0 of the output formats, the one that DALI asks for
NOT_DECODED = (1, 801)  # CUDA_ERROR_INVALID_VALUE of a driver that is older than the codec, CUDA_ERROR_NOT_SUPPORTED
MACROBLOCK = 256  # pixels
LIBRARIES = ("libnvcuvid.so.1", "libnvcuvid.so")
MISSING = "the driver lacks libnvcuvid (containers: NVIDIA_DRIVER_CAPABILITIES=compute,utility,video)"


class Unavailable(Exception):  # noqa: N818 (an observation, answered with software decoding)
    """The driver cannot be asked, so nothing is decoded by NVDEC; the message says why."""


class DecodeCaps(ctypes.Structure):
    """CUVIDDECODECAPS: the question (codec, chroma, bits beyond 8), and the driver's answer."""

    _fields_ = (
        ("codec", ctypes.c_int),
        ("chroma", ctypes.c_int),
        ("bits_beyond_8", ctypes.c_uint),
        ("_reserved1", ctypes.c_uint * 3),
        ("supported", ctypes.c_ubyte),
        ("engines", ctypes.c_ubyte),
        ("output_formats", ctypes.c_ushort),
        ("max_width", ctypes.c_uint),
        ("max_height", ctypes.c_uint),
        ("max_macroblocks", ctypes.c_uint),
        ("min_width", ctypes.c_ushort),
        ("min_height", ctypes.c_ushort),
        ("_histogram", ctypes.c_ubyte * 4),
        ("_reserved3", ctypes.c_uint * 10),
    )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What NVDEC takes of a codec: from `least` to `most` (width, height in pixels), and how many engines decode it."""

    least: tuple[int, int]
    most: tuple[int, int]
    macroblocks: int
    engines: int

    def fit(self, shown: np.ndarray, coded: np.ndarray) -> np.ndarray:
        """Return for each picture (widths and heights, N x 2) whether NVDEC takes it.

        Shown and coded size are compared each on its safe side, since FFmpeg's coded size may not be NVDEC's.
        NVDEC writes pictures of even sides only.
        """
        inside = (shown >= self.least).all(axis=1) & (coded <= self.most).all(axis=1) & (shown % 2 == 0).all(axis=1)
        return inside & (coded.prod(axis=1, dtype=np.int64) // MACROBLOCK <= self.macroblocks)


@cache
def limits(codec: str, bits: int) -> Limits | None:
    """Return what the GPU takes of a codec (FFmpeg's name) at 4:2:0 and `bits`; None if it does not decode it.

    Raises `Unavailable` where the driver cannot be asked.
    """
    if codec not in CODECS:
        return None
    found = _ask(CODECS[codec], bits)
    if not found.supported or not found.output_formats & NV12:
        return None
    return Limits(
        least=(found.min_width, found.min_height),
        most=(found.max_width, found.max_height),
        macroblocks=found.max_macroblocks,
        engines=found.engines,
    )


def engines() -> int:
    """Return how many engines decode at once; 0 where there is none, or the driver is too old to tell."""
    try:
        return max((found.engines for codec in CODECS if (found := limits(codec, 8))), default=0)
    except Unavailable:
        return 0


def describe(codec: str) -> str:
    """Return what is decoded of a codec, for people; "" if nothing is. Raises `Unavailable`."""
    depths = [(bits, found) for bits in BITS if (found := limits(codec, bits))]
    return "; ".join(
        f"{bits} bit {f.least[0]}x{f.least[1]} to {f.most[0]}x{f.most[1]}, {f.macroblocks} macroblocks, "
        f"{f.engines or 'unknown'} engines"
        for bits, f in depths
    )


def _ask(codec: int, bits: int) -> DecodeCaps:
    """Ask the driver about the current GPU."""
    library = _library()
    import torch

    torch.zeros(1, device="cuda")  # the question needs a CUDA context
    found = DecodeCaps(codec=codec, chroma=YUV420, bits_beyond_8=bits - 8)
    error = library.cuvidGetDecoderCaps(ctypes.byref(found))
    if error and error not in NOT_DECODED:
        raise Unavailable(f"the driver does not say what NVDEC decodes (cuvidGetDecoderCaps: CUDA error {error})")
    return found


def _library() -> ctypes.CDLL:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise Unavailable(MISSING)
