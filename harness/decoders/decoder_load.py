"""How busy a GPU's video decoders (NVDEC) are while something runs, in percent of all of them together."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..measuring import nvml

PERIOD = 0.1  # seconds between two looks; the driver averages over a sixth of a second or more


class Load:
    """The samples of a block, in percent."""

    def __init__(self) -> None:
        self.samples: list[int] = []

    @property
    def percent(self) -> float | None:
        """Their median; None on a CPU, and where the driver does not tell."""
        return statistics.median(self.samples) if self.samples else None


@contextmanager
def watch(device: torch.device) -> Iterator[Load]:
    """Sample the decoders of a CUDA device during the block; of a CPU nothing is sampled."""
    load, stop = Load(), threading.Event()
    sampler = threading.Thread(target=_sample, args=(device, load.samples, stop), daemon=True)
    if device.type == "cuda":
        sampler.start()
    try:
        yield load
    finally:
        stop.set()
        if device.type == "cuda":
            sampler.join()


def _sample(device: torch.device, samples: list[int], stop: threading.Event) -> None:
    handle = nvml.handle(device)
    while not stop.wait(PERIOD):
        found = nvml.read("DeviceGetDecoderUtilization", handle)
        if found is None:
            return  # a slice of a GPU does not tell
        samples.append(found[0])
