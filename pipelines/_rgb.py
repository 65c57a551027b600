"""Converts decoded frames to RGB, one by one: by each frame's own size, pixel format and color tags.

swscale converts as in DALI's CPU decoder: bilinear, full chroma, accurate rounding. Only a region is converted, but it
gets the colors that it has in the whole frame:

    chroma     |   .   |   .   |   .   |      4:1:1: one sample for 4 pixels
    frame      | | | | | | | | | | | | |
    region             [---------]
    converted  |<--------------------->|      whole chroma blocks, and more on each side
"""

from __future__ import annotations

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import VideoReformatter

# SWS_BILINEAR | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND
EXACT = 0x42002
MARGIN = 3  # chroma blocks: of pictures of less than four, swscale interpolates chroma in another way
WHOLE = 8  # pixels, which hold a whole number of chroma samples in every format, and of bytes

Region = tuple[int, int, int, int]


class ToRGB:
    """Returns a frame's region x0 y0 x1 y1 as RGB (uint8 H x W x 3).

    A frame of another `size` (width, height) is resampled to it first: a stream may change its size.
    """

    def __init__(self, region: Region, size: tuple[int, int]) -> None:
        self.region, self.size = region, size
        self.reformatter = VideoReformatter()
        self.crops: dict[tuple[int, int, str, Region], Graph] = {}

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Convert a frame. Raises FFmpegError if swscale lacks its pixel format."""
        x0, y0, x1, y1 = self.region
        left = top = 0
        if (frame.width, frame.height) == self.size:
            part = _whole_blocks(frame, self.region)
            left, top = part[:2]
            frame = self._crop(frame, part)
            width, height = frame.width, frame.height
        else:
            width, height = self.size
        rgb = self.reformatter.reformat(frame, width, height, format="rgb24", interpolation=EXACT, threads=1)
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(-1, plane.line_size)
        return rows[y0 - top : y1 - top, 3 * (x0 - left) : 3 * (x1 - left)].reshape(y1 - y0, x1 - x0, 3)

    def _crop(self, frame: av.VideoFrame, part: Region) -> av.VideoFrame:
        """Crop a frame without copying it: FFmpeg's `crop` filter moves the plane pointers."""
        if part == (0, 0, frame.width, frame.height):
            return frame
        key = frame.width, frame.height, frame.format.name, part
        if key not in self.crops:
            self.crops[key] = _crop_graph(frame, part)
        self.crops[key].vpush(frame)
        return self.crops[key].vpull()


def _whole_blocks(frame: av.VideoFrame, region: Region) -> Region:
    """Return the smallest part of a frame that gives a region the colors that it has in the whole frame.

    swscale stretches chroma to a side that is no multiple of its blocks, over its whole length: so then is the part.
    """
    form, fields = frame.format, 1 + frame.interlaced_frame
    width = WHOLE if form.is_bit_stream else WHOLE // form.chroma_width(WHOLE)
    x0, x1 = _widened(region[0], region[2], frame.width, width)
    y0, y1 = _widened(region[1], region[3], frame.height, WHOLE // form.chroma_height(WHOLE) * fields)
    return x0, y0, x1, y1


def _widened(low: int, high: int, side: int, block: int) -> tuple[int, int]:
    if side % block:
        return 0, side
    return max(low // block - MARGIN, 0) * block, min((-(-high // block) + MARGIN) * block, side)


def _crop_graph(frame: av.VideoFrame, part: Region) -> Graph:
    x0, y0, x1, y1 = part
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    crop, sink = graph.add("crop", f"{x1 - x0}:{y1 - y0}:{x0}:{y0}:exact=1"), graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    return graph
