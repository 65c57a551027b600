"""What the GPU's video decoder (NVDEC) supports according to the driver: codecs, bit depths, sizes, and engines.

    nvdec.limits("hevc", 10)        # Limits(least=(144, 144), most=(8192, 8192), …), or None: not decoded
    nvdec.engines()                 # 7 on an H100

Queries `cuvidGetDecoderCaps` of NVIDIA's Video Codec SDK (cuviddec.h). A process decodes on one GPU, so answers are
cached.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np

# `cudaVideoCodec` of the codecs that DALI's GPU decoder supports: not MPEG-2, VC-1 and JPEG, which NVDEC has, and
# not MPEG-4, of which DALI 2.4 shows the frame before the one asked for where there are B pictures (on an H200).
CODECS = {"h264": 4, "hevc": 8, "vp8": 9, "vp9": 10, "av1": 11}
BITS = (8, 10, 12)
YUV420 = 1  # `cudaVideoChromaFormat`
NV12 = 1  # bit 0 of the output formats, the one that DALI asks for
NOT_DECODED = (1, 801)  # CUDA_ERROR_INVALID_VALUE of a driver that is older than the codec, CUDA_ERROR_NOT_SUPPORTED
MACROBLOCK = 256  # pixels
LIBRARIES = ("libnvcuvid.so.1", "libnvcuvid.so")
MISSING = "the driver lacks libnvcuvid (containers: NVIDIA_DRIVER_CAPABILITIES=compute,utility,video)"


class Unavailable(Exception):  # noqa: N818 (answered with software decoding)
    """The driver cannot be queried, so NVDEC is not used; the message says why."""


class DecodeCaps(ctypes.Structure):
    """CUVIDDECODECAPS: the query (codec, chroma format, bit depth - 8), and the driver's answer."""

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
    """NVDEC's limits for a codec: sizes from `least` to `most` (width, height), macroblocks per frame, engines."""

    least: tuple[int, int]
    most: tuple[int, int]
    macroblocks: int
    engines: int

    def fit(self, shown: np.ndarray, coded: np.ndarray) -> np.ndarray:
        """Return for each frame size (N x 2: width, height) whether NVDEC decodes it (bool, N).

        FFmpeg's coded size may differ from NVDEC's: so the minimum is compared with the shown size, the maximum with
        the coded one. NVDEC outputs frames with even sides only.
        """
        inside = (shown >= self.least).all(axis=1) & (coded <= self.most).all(axis=1) & (shown % 2 == 0).all(axis=1)
        return inside & (coded.prod(axis=1, dtype=np.int64) // MACROBLOCK <= self.macroblocks)


@cache
def limits(codec: str, bits: int) -> Limits | None:
    """Return the GPU's limits for a codec (FFmpeg's name) in 4:2:0 with `bits` per sample; None if not supported.

    Raises Unavailable if the driver cannot be queried.
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
    """Return the number of NVDEC engines; 0 if there is none, or the driver is too old to report it."""
    try:
        return max((found.engines for codec in CODECS if (found := limits(codec, 8))), default=0)
    except Unavailable:
        return 0


def describe(codec: str) -> str:
    """Return the limits of a codec as text, "" if not supported. Raises Unavailable if the driver cannot be queried."""
    depths = [(bits, found) for bits in BITS if (found := limits(codec, bits))]
    return "; ".join(
        f"{bits} bit {f.least[0]}x{f.least[1]} to {f.most[0]}x{f.most[1]}, {f.macroblocks} macroblocks, "
        f"{f.engines or 'unknown'} engines"
        for bits, f in depths
    )


def _ask(codec: int, bits: int) -> DecodeCaps:
    """Query the driver about the current GPU."""
    library = _library()
    import torch

    torch.zeros(1, device="cuda")  # the query needs a CUDA context
    found = DecodeCaps(codec=codec, chroma=YUV420, bits_beyond_8=bits - 8)
    error = library.cuvidGetDecoderCaps(ctypes.byref(found))
    if error and error not in NOT_DECODED:
        raise Unavailable(f"the driver does not report what NVDEC decodes (cuvidGetDecoderCaps: CUDA error {error})")
    return found


def _library() -> ctypes.CDLL:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise Unavailable(MISSING)
