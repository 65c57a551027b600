"""A slow and simple reference implementation of the clips, for the tests and `reelbench data certify` only.

It shares only the choice of frames and boxes (`ClipSampler`) with the pipeline. Decoding is sequential from the first
frame, the resampling is written out in float64, and nothing runs in parallel.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from einops import rearrange

from . import _frames
from .source import ClipSampler

EXACT = 0x42002  # swscale: bilinear, full chroma, accurate rounding


def decode(path: Path | str, stream: int = 0, rotation: int = 0, flipped: bool = False) -> np.ndarray:
    """Return all frames of a file or of a folder of frames, upright, in the first one's size: F x H x W x 3 uint8 RGB.

    `stream` is the stream's number in the container, `rotation` in degrees clockwise, after a mirroring from left to
    right if `flipped`. A span does not count.
    """
    path, reformatter, found = Path(path), VideoReformatter(), []
    size: tuple[int, int] | None = None
    for file in _frames.files(path) if path.is_dir() else [path]:
        with av.open(str(file), mode="r") as container:
            for packet in container.demux(container.streams[stream]):
                with suppress(FFmpegError):  # a picture whose reference was cut away is none
                    for frame in packet.decode():
                        size = size or (frame.width, frame.height)  # type: ignore[union-attr]
                        rgb = reformatter.reformat(frame, *size, format="rgb24", interpolation=EXACT)  # type: ignore[arg-type]
                        found.append(rgb.to_ndarray())
    frames = np.stack(found)
    return np.rot90(frames[:, :, ::-1] if flipped else frames, -rotation // 90, axes=(1, 2))


def resample(frames: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Return a box x0 y0 x1 y1 (pixel edges), resampled linearly without antialias: F x size x size x 3 float64.

    Output pixel j samples at x0 + (j + 0.5) * (x1 - x0) / size - 0.5; beyond the frame, edge pixels repeat. The
    pipeline rounds to whole gray levels; this does not, so that a test can tell rounding from error.
    """
    x0, y0, x1, y1 = (float(edge) for edge in box)
    rows = _axis(frames.astype(np.float64), 1, y0, y1, size)
    return _axis(rows, 2, x0, x1, size)


def _axis(values: np.ndarray, axis: int, low: float, high: float, size: int) -> np.ndarray:
    at = low + (np.arange(size) + 0.5) * (high - low) / size - 0.5
    left = np.floor(at).astype(int)
    weight = (at - left).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    last = values.shape[axis] - 1
    first, second = (np.take(values, np.clip(left + step, 0, last), axis) for step in (0, 1))
    return first * (1 - weight) + second * weight


def views(frames: np.ndarray, clip_sampler: ClipSampler, epoch: int, row: int) -> np.ndarray:
    """Return all views of a video, V x 3 x T x S x S float32, normalized, given all its frames.

    `frames` are F x H x W x 3, upright; of a trimmed file only those of the span. `row` is the index's. Of a training
    transform, crop and flip are applied; augmentation and `flip_keeps` are not.
    """
    height, width = frames.shape[1:3]
    spec = clip_sampler.sample(len(frames), (width, height), epoch, row)
    found = []
    for box, clip, flipped in clip_sampler.view_order:
        picked = frames[spec.frames[spec.positions[clip]]]
        view = resample(picked, spec.boxes[box], clip_sampler.size)
        view = view[:, :, ::-1] if flipped or spec.flip else view
        normalized = (view - np.array(clip_sampler.clip.mean)) / np.array(clip_sampler.clip.std)
        found.append(rearrange(normalized, "t h w c -> c t h w"))
    return np.stack(found).astype(np.float32)
