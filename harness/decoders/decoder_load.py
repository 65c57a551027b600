"""Utilization of a GPU's video decoders (NVDEC) during a block, in percent over all engines."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..measuring import nvml

PERIOD = 0.1  # seconds between samples; the driver averages over a sixth of a second or more


class Load:
    """Utilization samples of a block, in percent."""

    def __init__(self) -> None:
        self.samples: list[int] = []

    @property
    def percent(self) -> float | None:
        """The median; None on a CPU, or if the driver does not report it."""
        return statistics.median(self.samples) if self.samples else None


@contextmanager
def watch(device: torch.device) -> Iterator[Load]:
    """Sample a CUDA device's decoder utilization during the block; on a CPU nothing is sampled."""
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
            return  # not available, such as on a MIG slice
        samples.append(found[0])
