"""torchcodec, on the CPU and on NVDEC. It gets the times and key frames of a file, so it need not scan the file.

Not every wheel includes NVDEC: those for CUDA have it in their version, such as `0.11.0+cu130`.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from torch import Tensor

from ...errors import UserError
from .. import Device
from ..index import Video
from . import Reader

PACKAGE = "torchcodec"
DEVICES = ("cpu", "cuda")


def reader(device: Device) -> Reader:
    """Return a function that decodes frames. Raises ImportError if the library is not installed.

    The function raises UserError if `device` is "cuda" but torchcodec decodes the file on the CPU.
    """
    from torchcodec.decoders import VideoDecoder, set_cuda_backend  # type: ignore[import-not-found]

    def backend() -> AbstractContextManager[object]:
        # Named `nvdec`, and the default, in later versions; the CPU knows none.
        return set_cuda_backend("beta") if device == "cuda" else nullcontext()

    def read(video: Video, frames: np.ndarray) -> Tensor:
        with backend():
            found = VideoDecoder(
                str(video.path), stream_index=video.stream, dimension_order="NHWC", num_ffmpeg_threads=1,
                device=device, custom_frame_mappings=_mapping(video),
            )  # fmt: skip
        pictures = found.get_frames_at(frames.tolist()).data
        if device == "cuda" and found.cpu_fallback:
            raise UserError(f"torchcodec decodes {video.path.name} on the CPU: {found.cpu_fallback}")
        return pictures

    return read


def _mapping(video: Video) -> str:
    """Return the index's times and key frames as JSON in the format of `ffprobe -show_frames`."""
    last = video.pts[-1] + max(1, int(video.pts[-1] - video.pts[-2])) if len(video.pts) > 1 else video.pts[-1] + 1
    durations = np.diff(video.pts, append=last).tolist()
    keys = np.isin(np.arange(len(video.pts)), video.key_frames).astype(int).tolist()
    rows = zip(video.pts.tolist(), durations, keys, strict=True)
    return json.dumps({"frames": [{"pts": pts, "duration": length, "key_frame": key} for pts, length, key in rows]})
