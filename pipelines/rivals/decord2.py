"""decord2, on the CPU: `pip install decord2`, imported as `decord`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import Device
from ..index import Video
from . import Reader

PACKAGE = "decord2"
DEVICES = ("cpu",)


def reader(device: Device) -> Reader:
    """Return a function that decodes frames. Raises ImportError if the library is not installed."""
    import decord  # type: ignore[import-not-found]

    def read(video: Video, frames: np.ndarray) -> Tensor:
        found = decord.VideoReader(str(video.path), ctx=decord.cpu(0), num_threads=1)
        return torch.from_numpy(found.get_batch(frames.tolist()).asnumpy())

    return read
