"""torchcodec, on the CPU and on NVDEC. It is told the times and key frames of a file, so that it need not scan it.

Not every wheel has NVDEC in it: one for CUDA says so in its version, as `0.11.0+cu130` does.
"""

from __future__ import annotations

import json

import numpy as np
from torch import Tensor

from ...errors import UserError
from .. import Device
from ..index import Video
from . import Reader

PACKAGE = "torchcodec"
DEVICES = ("cpu", "cuda")


def reader(device: Device) -> Reader:
    """Return a function that decodes frames; an ImportError says that the library is not installed.

    Raises UserError where torchcodec would decode on the CPU while it is asked for the GPU.
    """
    from torchcodec.decoders import VideoDecoder, set_cuda_backend  # type: ignore[import-not-found]

    def read(video: Video, frames: np.ndarray) -> Tensor:
        with set_cuda_backend("beta"):  # what later versions call `nvdec`, and take by default
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
    """Return what an index knows of a file in the form that `ffprobe -show_frames` writes."""
    last = video.pts[-1] + max(1, int(video.pts[-1] - video.pts[-2])) if len(video.pts) > 1 else video.pts[-1] + 1
    durations = np.diff(video.pts, append=last).tolist()
    keys = np.isin(np.arange(len(video.pts)), video.key_frames).astype(int).tolist()
    rows = zip(video.pts.tolist(), durations, keys, strict=True)
    return json.dumps({"frames": [{"pts": pts, "duration": length, "key_frame": key} for pts, length, key in rows]})
