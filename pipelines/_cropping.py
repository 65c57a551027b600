"""Takes the cropping on the right out of H.264: frames then show whole blocks, and crop boxes stay the same.

    | 340 pixels shown       | 12 of padding |      352 coded

DALI finds an NVDEC session again only for a video that shows all that is coded; any other costs a session of its own,
tens of milliseconds. Cropping below stays: were it left in one video for any reason, that one could be given another's
session and show wrong colors (docs/dali-nvdec-cache.md). So does HEVC's, of which the index knows no coded size.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import av
from av import Packet
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Size = tuple[int, int]
_removed: dict[tuple[bytes, Size], bool] = {}  # by the parameter sets; a data set has few


def on_the_right(table: pd.DataFrame) -> np.ndarray:
    """Return for each row of an index's table whether all that is cropped, as far as is known, is on the right."""
    wider, as_high = table["coded_width"] > table["width"], table["coded_height"] == table["height"]
    return ((table["codec"] == "h264") & wider & as_high).to_numpy(bool)


def removing(source: Any, target: Any, size: Size) -> Callable[[Packet], Packet]:
    """Return what makes the packets of the stream `source` into those of `target`, its copy.

    `size` is the coded (width, height), which `target` is given. Call this before anything is written. What it returns
    raises ValueError or FFmpegError at packets that cannot be read.
    """
    bitstream = BitStreamFilterContext("h264_metadata=crop_right=0", source, target)
    target.codec_context.width, target.codec_context.height = size  # after the filter, which copies the source's

    def remove(packet: Packet) -> Packet:
        time_base = packet.time_base
        (filtered,) = bitstream.filter(packet)
        filtered.time_base = time_base
        return filtered

    return remove


def is_removed(content: io.BytesIO, sets: bytes, size: Size) -> bool:
    """Whether the first frame of a file shows `size`: not if something is cropped on the left.

    It is looked at once for all files with these parameter `sets`, which are empty where the packets hold them.
    """
    if not sets or (sets, size) not in _removed:
        content.seek(0)
        with av.open(content, mode="r") as container:
            container.streams.video[0].codec_context.flags |= Flags.unaligned  # else it crops less on the left
            frame = next(container.decode(video=0), None)
        _removed[sets, size] = frame is not None and (frame.width, frame.height) == size
    return _removed[sets, size]
