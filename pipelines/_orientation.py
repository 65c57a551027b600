"""A video's orientation: frames are stored as the sensor read them, and a display matrix tells how to show them.

Of its eight values, four are turns and four mirror images: `rotation` in degrees clockwise, after a mirroring from left
to right if `flipped`. FFmpeg finds the matrix in MP4's movie and track headers, Matroska's projection, or the stream,
and hands it out with each decoded frame. Of a matrix that is none of the eight, the nearest counts.
"""

from __future__ import annotations

import itertools
import struct
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

Orientation = tuple[int, bool]

UPRIGHT: Orientation = (0, False)
TRIED = 32  # packets at the beginning that may hold no frame

# (a, b, c, d) of each orientation: a pixel at (x, y) is shown at (a x + c y, b x + d y), y pointing downwards.
_TURNS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
_MATRICES = {
    (angle, flipped): np.array([-a, -b, c, d] if flipped else [a, b, c, d])
    for angle, (a, b, c, d) in _TURNS.items()
    for flipped in (False, True)
}


def read(path: Path, stream: int) -> Orientation:
    """Decode the first frame of a stream and return its orientation; upright if no frame can be decoded."""
    with suppress(FFmpegError), av.open(str(path)) as container:
        for packet in itertools.islice(container.demux(container.streams.video), TRIED):
            for frame in _decode(packet) if packet.stream_index == stream else ():
                matrix = frame.side_data.get("DISPLAYMATRIX")
                return UPRIGHT if matrix is None else of_matrix(bytes(matrix))
    return UPRIGHT


def _decode(packet: av.Packet) -> list[av.VideoFrame]:
    """Return the frames that a packet completes; none of one whose reference was cut away."""
    with suppress(FFmpegError):
        return packet.decode()  # type: ignore[return-value]
    return []


def of_matrix(content: bytes) -> Orientation:
    """Return the orientation that is nearest to a display matrix: nine int32 in FFmpeg's order, native endianness."""
    a, b, _, c, d, *_ = struct.unpack("=9i", content[:36])
    return max(_MATRICES, key=lambda orientation: float(_MATRICES[orientation] @ (a, b, c, d)))


def apply(frames: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Return frames … H W C as they are to be shown, as a view."""
    rotation, flipped = orientation
    frames = frames[..., ::-1, :] if flipped else frames
    return np.rot90(frames, -rotation // 90, axes=(-3, -2))
