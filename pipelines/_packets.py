"""Which packets a choice of frames needs, and a small file made of just those.

    key frames   K . . . . . . K . . . . . . K . . . .
    wanted           x   x                     x   x
    excerpt      K . x . x                   K x . x        0 1 2 3 4 5 6 7 8, of which 2 4 6 8 are wanted

DALI's CPU decoder decodes from the file's beginning whatever is asked of it; of an excerpt that is the least possible.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

MILLISECONDS = 40  # between the frames of a Matroska excerpt, whose unit is the millisecond


class Mismatch(Exception):  # noqa: N818 (caught: the whole file is then used instead)
    """A file showed other frames than the index lists."""


@dataclass(frozen=True)
class Times:
    """The presentation times and key frames of all files, end to end; the `ends` say where each file's stop."""

    pts: np.ndarray
    pts_ends: np.ndarray
    keys: np.ndarray
    key_ends: np.ndarray

    @classmethod
    def of(cls, index: Any) -> Times:
        """Read the columns of an `Index`."""
        return cls(*_flat(index.table["pts"]), *_flat(index.table["key_frames"]))

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a file's (pts, key frames)."""
        return _part(self.pts, self.pts_ends, row), _part(self.keys, self.key_ends, row)


def _flat(column: Any) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow as pa

    lists = pa.array(column)
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    return lists.flatten().to_numpy(), np.cumsum(lists.value_lengths().to_numpy())


def _part(values: np.ndarray, ends: np.ndarray, row: int) -> np.ndarray:
    return values[ends[row - 1] if row else 0 : ends[row]]


def opened(content: Any) -> InputContainer:
    """Open a file's bytes."""
    return av.open(io.BytesIO(content), mode="r")


def groups(wanted: np.ndarray, keys: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (key frame, the wanted frames up to the next key frame) for ascending `wanted`."""
    starts = keys[np.searchsorted(keys, wanted, side="right") - 1] if len(keys) else np.zeros_like(wanted)
    for group in np.split(wanted, np.flatnonzero(np.diff(starts)) + 1):
        yield int(starts[np.searchsorted(wanted, group[0])]), group


def excerpt(
    content: np.ndarray, stream: int, wanted: np.ndarray, pts: np.ndarray, keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return a file with the packets that `wanted` (ascending) needs, and the wanted frames' numbers in it (int32).

    For codecs that show frames in the order of their packets. Where packets do not match the index, it is the whole
    file and `wanted` again.
    """
    file = io.BytesIO()
    try:
        with opened(content.data) as source:
            avi = source.format.name == "avi"
            with av.open(file, mode="w", format="avi" if avi else "matroska") as target:
                video = source.streams[stream]
                copy = target.add_stream_from_template(video)
                numbers = _copy(source, video, target, copy, 1 if avi else MILLISECONDS, wanted, pts, keys)
    except (Mismatch, FFmpegError):
        return content, wanted
    return np.frombuffer(file.getbuffer(), dtype=np.uint8), numbers


def _copy(
    source: Any, video: Any, target: Any, copy: Any, step: int, wanted: np.ndarray, pts: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """Copy the packets, `step` apart (AVI would fill gaps with empty frames), and return the wanted frames' numbers."""
    numbers, count = [], 0
    for key, group in groups(wanted, keys):
        source.seek(int(pts[key]), stream=video)
        packets = (packet for packet in source.demux(video) if packet.size)
        for frame, packet in zip(range(key, int(group[-1]) + 1), packets, strict=False):
            if packet.pts != pts[frame]:
                raise Mismatch(f"frame {frame} is not where the index says")
            packet.pts = packet.dts = count * step
            packet.stream = copy
            target.mux(packet)
            count += 1
        numbers.append(count - 1 - int(group[-1]) + group)
    return np.concatenate(numbers).astype(np.int32)
