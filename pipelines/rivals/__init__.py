"""Other libraries' decoders, for comparison in `reelbench data bench --rivals`: one file per library.

    PACKAGE = "torchcodec"                                  what to install
    DEVICES = ("cpu", "cuda")                               where it decodes
    def reader(device: Device) -> Reader: ...               imports the library; one reader serves one thread

They get the same input as our own stream: the frames to decode, and the index's facts of the file. Cropping, resizing
and normalization are done in torch, on the same device.
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
from einops import rearrange
from torch import Tensor

from ... import discover
from .. import Device
from ..index import Index, Video
from ..source import BatchSampler, ClipSampler

Reader = Callable[[Video, np.ndarray], Tensor]
"""Decodes frames of a video by their numbers in the file (ascending, distinct): F H W 3 uint8 RGB on the device."""


def find(device: Device) -> dict[str, ModuleType]:
    """Return {name: module} of the libraries that decode on a device, installed or not."""
    every = {name: discover.module("pipelines.rivals", name, "decoder") for name in discover.names("pipelines.rivals")}
    return {name: module for name, module in every.items() if device in module.DEVICES}


def batches(
    index: Index, clip_sampler: ClipSampler, batch_sampler: BatchSampler, make: Callable[[], Reader], workers: int
) -> Generator[Tensor, None, None]:
    """Yield batches of training clips, epoch after epoch without end: N x 3 x T x S x S float32, normalized.

    `make` is called once in each of `workers` threads. Frames and boxes are those of `pipelines.open` with the same
    samplers; box edges are rounded to whole pixels. Flips and augmentation are left out, boxes are chosen for the frame
    as stored, before rotation, and a video that cannot be decoded raises the library's error.
    """
    own = threading.local()

    def clip(epoch: int, row: int) -> Tensor:
        if not hasattr(own, "read"):
            own.read = make()
        return _clip(index[row], own.read, clip_sampler, epoch, row)

    pool = ThreadPoolExecutor(workers)
    try:
        ready = _ahead(pool, clip, batch_sampler, 2 * workers + batch_sampler.batch)
        while True:
            yield torch.stack(list(itertools.islice(ready, batch_sampler.batch)))
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(
    pool: ThreadPoolExecutor, clip: Callable[[int, int], Tensor], batch_sampler: BatchSampler, depth: int
) -> Iterator[Tensor]:
    """Yield the clips in order, prefetching `depth` of them."""
    begun: deque[Future[Tensor]] = deque()
    places = ((epoch, number) for epoch in itertools.count() for number in range(batch_sampler.batches))
    for epoch, number in places:
        for row in batch_sampler.rows(epoch, number):
            begun.append(pool.submit(clip, epoch, int(row)))
            if len(begun) > depth:
                yield begun.popleft().result()


def _clip(video: Video, read: Reader, clip_sampler: ClipSampler, epoch: int, row: int) -> Tensor:
    spec = clip_sampler.sample(video.frames, (video.width, video.height), epoch, row)
    x0, y0, x1, y1 = (round(float(edge)) for edge in spec.boxes[0])
    frames = read(video, spec.frames + video.offset)[:, y0:y1, x0:x1]
    frames = rearrange(frames, "t h w c -> t c h w")
    size = (clip_sampler.size, clip_sampler.size)
    frames = frames if frames.device.type == "cpu" else frames.float()  # torch resizes uint8 on a CPU only
    frames = F.interpolate(frames, size=size, mode="bilinear", align_corners=False).float()
    mean, std = (
        torch.tensor(v, device=frames.device).view(3, 1, 1) for v in (clip_sampler.clip.mean, clip_sampler.clip.std)
    )
    positions = torch.from_numpy(spec.positions[0]).to(frames.device).long()
    return rearrange(((frames - mean) / std)[positions], "t c h w -> c t h w").contiguous()
