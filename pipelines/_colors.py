"""The colors that a file is tagged with, and what turns DALI's colors into these.

    untagged, or a tag that names no matrix below     BT.601, as FFmpeg shows it
    range untagged                                    limited, unless the pixel format itself is full (`yuvj420p`)

DALI's decoders convert every picture by BT.601, in the range that the stream states. A matrix on the finished RGB makes
up for another one, the same for both ranges, to one gray level. Not where DALI has clipped: a pure green of BT.709 lies
outside of BT.601's RGB and stays up to 37 levels off. Of real videos that concerns a pixel in 300 or fewer.
"""

from __future__ import annotations

import av
import numpy as np

UNKNOWN = "unknown"
# FFmpeg's names, by AVColorSpace and AVColorRange.
MATRICES = (
    "gbr", "bt709", UNKNOWN, "reserved", "fcc", "bt470bg", "smpte170m", "smpte240m", "ycgco", "bt2020nc", "bt2020c",
)  # fmt: skip
RANGES = (UNKNOWN, "tv", "pc")
OVERRULING = ("hevc", "av1")  # whose headers are heard even where they are silent, and not the container's tags
BT601 = 0.299, 0.114
# The weights of red and blue in the luma (ITU-T H.273, table 4).
WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
    "bt2020c": (0.2627, 0.0593),  # FFmpeg shows it like the other
}


def tags(context: av.VideoCodecContext) -> dict[str, str]:
    """Return the fields of a `Video` that name its colors: those that a decoder's frames carry."""
    if context.codec.canonical_name == "vp8":  # has one matrix (RFC 6386, 9.2): what a container says is passed over
        return {"color_matrix": "bt470bg", "color_range": "tv"}
    if context.codec.canonical_name in OVERRULING:
        extradata = context.extradata
        context = av.CodecContext.create(context.codec.name, "r")  # type: ignore[assignment]
        context.extradata, context.thread_count = extradata, 1
        context.open()
    matrix, extent = context.colorspace, context.color_range
    return {
        "color_matrix": MATRICES[matrix] if matrix < len(MATRICES) else UNKNOWN,
        "color_range": RANGES[extent] if extent < len(RANGES) else UNKNOWN,
    }


def stated_to_nvdec(codec: str, color_range: str) -> bool:
    """Whether NVDEC learns a file's range: its parser is known to tell the full one of H.264 and HEVC alone."""
    return color_range != "pc" or codec in ("h264", "hevc")


def correction(matrix: str) -> np.ndarray:
    """Return what RGB that was converted by BT.601 is to be multiplied by (float32 3 x 3, of column vectors)."""
    if matrix not in WEIGHTS:
        return np.eye(3, dtype=np.float32)
    return (_rgb(*WEIGHTS[matrix]) @ np.linalg.inv(_rgb(*BT601))).astype(np.float32)


def _rgb(red: float, blue: float) -> np.ndarray:
    """Return the matrix from Y, Cb, Cr to R, G, B, the latter in 0..1."""
    green = 1 - red - blue
    from_cb, from_cr = 2 * (1 - blue), 2 * (1 - red)
    return np.array([[1, 0, from_cr], [1, -from_cb * blue / green, -from_cr * red / green], [1, from_cb, 0]])
