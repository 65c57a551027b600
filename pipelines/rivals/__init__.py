"""Other libraries' decoders, for `reelbench data bench` to measure beside ours: one file a library.

    PACKAGE = "torchcodec"                                  what to install
    DEVICES = ("cpu", "cuda")                               where it decodes
    def reader(device: Device) -> Reader: ...               imports the library; one reader serves one thread

They are given what our own stream is: the frames to decode, and what an index knows of the file. Cropping, resizing
and normalising follow on their device, in torch.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ... import discover
from .. import Device
from ..index import Index, Video
from ..source import Cutter, Order

Reader = Callable[[Video, np.ndarray], Tensor]
"""From a video and its file's frame numbers (ascending, distinct) to F x H x W x 3 uint8 RGB on the device."""


def find(device: Device) -> dict[str, ModuleType]:
    """Return the libraries that decode on a device, installed or not, by their names."""
    every = {name: discover.module("pipelines.rivals", name, "decoder") for name in discover.names("pipelines.rivals")}
    return {name: module for name, module in every.items() if device in module.DEVICES}


def batches(
    index: Index, cutter: Cutter, order: Order, make: Callable[[], Reader], workers: int
) -> Generator[Tensor, None, None]:
    """Yield the clips of training, epoch after epoch: N x 3 x T x S x S float32, normalised. Each thread has a reader.

    Frames and boxes are those that `pipelines.open` shows under the same cutter and order; box edges are rounded to
    whole pixels.
    """
    own = threading.local()

    def clip(epoch: int, row: int) -> Tensor:
        if not hasattr(own, "read"):
            own.read = make()
        return _clip(index[row], own.read, cutter, epoch, row)

    pool = ThreadPoolExecutor(workers)
    try:
        ready = _ahead(pool, clip, order, 2 * workers + order.batch)
        while True:
            yield torch.stack(list(itertools.islice(ready, order.batch)))
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(pool: ThreadPoolExecutor, clip: Callable[[int, int], Tensor], order: Order, depth: int) -> Iterator[Tensor]:
    """Yield the clips in their order, `depth` of them begun in advance."""
    begun: deque[Future[Tensor]] = deque()
    places = ((epoch, number) for epoch in itertools.count() for number in range(order.batches))
    for epoch, number in places:
        for row in order.rows(epoch, number):
            begun.append(pool.submit(clip, epoch, int(row)))
            if len(begun) > depth:
                yield begun.popleft().result()


def _clip(video: Video, read: Reader, cutter: Cutter, epoch: int, row: int) -> Tensor:
    cut = cutter.cut(video.frames, (video.width, video.height), epoch, row)
    x0, y0, x1, y1 = (round(float(edge)) for edge in cut.boxes[0])
    frames = read(video, cut.frames + video.offset)[:, y0:y1, x0:x1].permute(0, 3, 1, 2)
    size = (cutter.size, cutter.size)
    frames = frames if frames.device.type == "cpu" else frames.float()  # torch resizes bytes on a CPU only
    frames = F.interpolate(frames, size=size, mode="bilinear", align_corners=False).float()
    mean, std = (torch.tensor(v, device=frames.device).view(3, 1, 1) for v in (cutter.clip.mean, cutter.clip.std))
    positions = torch.from_numpy(cut.positions[0]).to(frames.device).long()
    return ((frames - mean) / std)[positions].transpose(0, 1).contiguous()
