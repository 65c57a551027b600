"""PyNvVideoCodec, NVIDIA's own Python library, on NVDEC: one decoder per thread, reused from file to file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from .. import Device
from ..index import Video
from . import Reader

PACKAGE = "PyNvVideoCodec"
DEVICES = ("cuda",)


def reader(device: Device) -> Reader:
    """Return a function that decodes frames. Raises ImportError if the library is not installed.

    The function raises UserError if the library returns fewer frames than requested: it omits those it does not find.
    """
    import PyNvVideoCodec as nvc  # type: ignore[import-not-found]  # noqa: N813

    decoder: Any = None

    def read(video: Video, frames: np.ndarray) -> Tensor:
        nonlocal decoder
        if decoder is None:
            decoder = nvc.SimpleDecoder(
                str(video.path), gpu_id=torch.cuda.current_device(), use_device_memory=True,
                output_color_type=nvc.OutputColorType.RGB,
            )  # fmt: skip
        else:
            decoder.reconfigure_decoder(str(video.path))
        pictures = [torch.from_dlpack(picture) for picture in decoder.get_batch_frames_by_index(frames.tolist())]
        if len(pictures) < len(frames):
            raise UserError(f"PyNvVideoCodec finds {len(pictures)} of {len(frames)} frames of {video.path.name}")
        return torch.stack(pictures)  # a copy: the next call decodes into the same memory

    return read
