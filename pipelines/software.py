"""Software decoding with PyAV in DALI's worker processes, for videos that DALI's own decoder cannot decode correctly.

    key frames   K . . . . . . K . . . . . . K . . . .
    wanted           x   x                     x   x
    decoded      o-o-o-o-o    (seek)         o-o-o-o-o       "-": non-reference frames are not decoded

Only the region that the crop boxes need is converted to RGB (`_rgb`). Frames of another size than the index's are
resampled to it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video import VideoStream

from . import _orientation
from ._files import UnreadableVideo
from ._header import UNDECODED
from ._packets import Mismatch, from_key, groups, is_avi, opened
from ._rgb import Region, ToRGB
from ._shown import Decoder
from .source import ClipSpec, EncodedSource

MARGIN = 2  # pixels around a box; resampling reads at most one
# Codecs whose decoders can omit frames (`skip_frame`) without changing the others.
SKIPPING = ("h264", "hevc")


class DecodedSource(EncodedSource):
    """A source whose content is decoded frames, upright (uint8, F x H x W x 3): the region that the crop boxes need."""

    form = "decoded"

    def content(self, row: int, spec: ClipSpec) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Return the decoded frames, and the boxes relative to their region. Raises UnreadableVideo."""
        content, wanted = self.fetch(row, spec)
        region, orientation = around(spec.boxes, *self.files.size(row)), self.files.orientation(row)
        turned = orientation != _orientation.UPRIGHT
        size = self.files.coded_size(row)
        part = (0, 0, *size) if turned else region
        try:
            times, packets = self.files.times(row), self.files.packets(row)
            frames = decode(content, self.files.stream(row), wanted, *times, part, size=size, packets=packets)
        except (FFmpegError, Mismatch, ValueError) as error:
            raise UnreadableVideo(f"cannot be decoded: {error}") from None
        if turned:
            x0, y0, x1, y1 = region
            frames = np.ascontiguousarray(_orientation.apply(frames, orientation)[:, y0:y1, x0:x1])
        return (frames,), spec.boxes - np.array([region[0], region[1]] * 2, dtype=np.float32)


class MixedSource(DecodedSource):
    """A source for both kinds of rows: files that DALI decodes (`supported`), and files that are decoded here.

    The content is that of `EncodedSource`, that of `DecodedSource`, and 1 if the latter is the one to use; the other
    is a placeholder.
    """

    form = "mixed"

    def __init__(self, *arguments: Any, supported: np.ndarray, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.supported = supported

    def content(self, row: int, spec: ClipSpec) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Return the content of a row, and the boxes in its coordinates. Raises UnreadableVideo."""
        if self.supported[row]:
            (file, frames), boxes = EncodedSource.content(self, row, spec)
            return (file, frames, np.zeros((1, 2, 2, 3), np.uint8), np.array(0, np.int32)), boxes
        (pictures,), boxes = super().content(row, spec)
        return (np.zeros(1, np.uint8), np.zeros(1, np.int32), pictures, np.array(1, np.int32)), boxes

    def correction(self, row: int) -> np.ndarray:
        """Return the color correction of a row: identity if it is decoded here."""
        return super().correction(row) if self.supported[row] else np.eye(3, dtype=np.float32)


def around(boxes: np.ndarray, width: int, height: int) -> Region:
    """Return the region x0 y0 x1 y1 of a frame that contains all boxes (N x 4) plus `MARGIN`."""
    x0, y0 = (max(math.floor(low) - MARGIN, 0) for low in boxes[:, :2].min(axis=0))
    x1, y1 = (math.ceil(high) + MARGIN for high in boxes[:, 2:].max(axis=0))
    return x0, y0, min(x1, width), min(y1, height)


def decode(
    content: np.ndarray | Path, stream: int, wanted: np.ndarray, pts: np.ndarray, keys: np.ndarray, region: Region,
    *, size: tuple[int, int] | None = None, packets: Sequence[int] | np.ndarray = (),
) -> np.ndarray:  # fmt: skip
    """Return a file's frames `wanted` (ascending, distinct) as F x H x W x 3 uint8 RGB, cropped to the region.

    The region is x0 y0 x1 y1 in the stored frame: a rotation is not applied. `pts`, `keys` and `packets` are those of
    the index, and so is `size` (width, height), to which all frames are resampled; None means that of the first frame
    `wanted`. The frames equal those of a sequential decode from the start. Raises Mismatch if one is missing, or
    FFmpegError.
    """
    if len(packets):
        with suppress(Mismatch):
            return _convert(_numbered(content, stream, wanted, packets, keys), len(wanted), region, size)
        return _convert(_numbered(content, stream, wanted, packets, keys[:1]), len(wanted), region, size)
    # For some H.264 files, FFmpeg learns the reordering delay only by decoding the first frames: hence the second try.
    for options in () if is_avi(content) else (UNDECODED, {}):
        with suppress(Mismatch, FFmpegError):  # a file without an index of its key frames may not seek
            return _convert(_seeking(content, stream, wanted, pts, keys, options), len(wanted), region, size)
    return _convert(_counting(content, stream, wanted), len(wanted), region, size)


def _convert(frames: Iterator[av.VideoFrame], count: int, region: Region, size: tuple[int, int] | None) -> np.ndarray:
    x0, y0, x1, y1 = region
    out = np.empty((count, y1 - y0, x1 - x0, 3), dtype=np.uint8)
    convert: ToRGB | None = None
    for i, frame in enumerate(frames):
        convert = convert or ToRGB(region, size or (frame.width, frame.height))
        out[i] = convert(frame)
    return out


def _video(container: InputContainer, number: int) -> VideoStream:
    """Return the stream, set to one thread: the worker processes already run in parallel."""
    stream = container.streams[number]
    assert isinstance(stream, VideoStream)
    stream.codec_context.thread_count = 1
    return stream


def _counting(content: np.ndarray | Path, stream: int, wanted: np.ndarray) -> Iterator[av.VideoFrame]:
    """Yield the wanted frames of a sequential decode, by frame number."""
    numbers = set(wanted.tolist())
    with opened(content) as container:
        video = _video(container, stream)
        for number, frame in enumerate(container.decode(video)):
            if number in numbers:
                yield frame
                numbers.remove(number)
                if not numbers:
                    return
    raise Mismatch(f"frame {min(numbers)} is missing")


def _numbered(
    content: np.ndarray | Path, stream: int, wanted: np.ndarray, packets: Sequence[int] | np.ndarray, keys: np.ndarray
) -> Iterator[av.VideoFrame]:
    """Yield the wanted frames, found by the numbers of their packets, decoded from the preceding key frames."""
    with opened(content) as container:
        decoder = Decoder(container, _video(container, stream))
        frames, number = decoder.frames(), -1
        for key, group in groups(wanted, keys):
            if key > number + 1 and decoder.start(int(packets[key])):
                frames = itertools.dropwhile(lambda found, first=packets[key]: found[0] != first, decoder.frames())
                number = key - 1
            needed = set(group.tolist())
            for packet, frame in itertools.islice(frames, int(group[-1]) - number):
                number += 1
                if packet != packets[number] or (key and frame.format.has_palette):
                    raise Mismatch(f"frame {number} is not where the index says, or lacks its palette")
                if number in needed:
                    yield frame
            if number < group[-1]:
                raise Mismatch(f"frame {number + 1} is missing")


def _seeking(
    content: np.ndarray | Path, stream: int, wanted: np.ndarray, pts: np.ndarray, keys: np.ndarray,
    options: dict[str, str],
) -> Iterator[av.VideoFrame]:  # fmt: skip
    """Yield the wanted frames, found by pts after a seek to the preceding key frame."""
    with opened(content, options) as container:
        video = _video(container, stream)
        for key, group in groups(wanted, keys):
            yield from _group(from_key(container, video, key, pts), video, pts[group])


def _group(packets: Iterator[av.Packet], video: VideoStream, times: np.ndarray) -> Iterator[av.VideoFrame]:
    queue = times.tolist()
    needed, context = set(queue), video.codec_context
    skipping = context.codec.canonical_name in SKIPPING
    for packet in packets:
        if skipping:
            context.skip_frame = "DEFAULT" if packet.pts in needed else "NONREF"
        for frame in packet.decode():
            if frame.format.has_palette:
                raise Mismatch("a container may tell the palette at its beginning only")
            if frame.pts is None or frame.pts > queue[0]:
                raise Mismatch(f"the frame at {queue[0]} is missing")
            if frame.pts == queue[0]:
                yield frame
                queue.pop(0)
                if not queue:
                    return
    raise Mismatch(f"the frame at {queue[0]} is missing")
