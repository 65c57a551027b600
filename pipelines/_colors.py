"""The color tags of a file, and the matrix that corrects DALI's colors accordingly.

    no color matrix tag, or none of those below     BT.601, as in FFmpeg
    no range tag                                    limited, unless the pixel format is full range (`yuvj420p`)

Software obeys the tags of each frame (`_rgb`). On a CPU it decodes all files that would need the matrix; on a GPU they
are too many for that.

DALI's decoders convert every frame to RGB by BT.601, in the range that the stream states. A 3 x 3 matrix on the RGB
corrects this for other tags, for both ranges, to within one gray level. Except where DALI has clipped: BT.709's pure
green lies outside of BT.601's RGB and stays up to 37 levels off. In real videos this affects at most 1 pixel in 300.
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
OVERRULING = ("hevc", "av1")  # for these only the codec's headers count, even if empty, not the container's tags
BT601 = 0.299, 0.114
# Luma weights of red and blue (ITU-T H.273, table 4).
WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
    "bt2020c": (0.2627, 0.0593),  # FFmpeg treats it like bt2020nc
}


def tags(context: av.VideoCodecContext) -> dict[str, str]:
    """Return the `Video` fields for the color tags, as a decoder would attach them to its frames."""
    if context.codec.canonical_name == "vp8":  # one matrix only (RFC 6386, 9.2): container tags do not count
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
    """Whether NVDEC uses a file's color range: its parser is known to report full range for H.264 and HEVC only."""
    return color_range != "pc" or codec in ("h264", "hevc")


def correction(matrix: str) -> np.ndarray:
    """Return the matrix from RGB converted by BT.601 to RGB by `matrix` (float32 3 x 3, for column vectors).

    `matrix` is FFmpeg's name of the color matrix; the result is the identity if it is not in `WEIGHTS`.
    """
    if matrix not in WEIGHTS:
        return np.eye(3, dtype=np.float32)
    return (_rgb(*WEIGHTS[matrix]) @ np.linalg.inv(_rgb(*BT601))).astype(np.float32)


def _rgb(red: float, blue: float) -> np.ndarray:
    """Return the matrix from Y, Cb, Cr to R, G, B in 0..1, for the luma weights of red and blue."""
    green = 1 - red - blue
    from_cb, from_cr = 2 * (1 - blue), 2 * (1 - red)
    return np.array([[1, 0, from_cr], [1, -from_cb * blue / green, -from_cr * red / green], [1, from_cb, 0]])
