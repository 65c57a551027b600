"""What the machine does while something is measured: clocks, temperature, throttling, other users, load.

`watch(device)` samples a GPU through NVML in a thread, ten times a second; of a CPU, whose threads a sampler would
disturb, only load and frequency before and after.
"""

from __future__ import annotations

import os
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PERIOD = 0.1
# Bits of nvmlDeviceGetCurrentClocksEventReasons that slow a GPU down; the power cap is how a busy one always ends up,
# so it is told but no reason to measure again.
SLOWED = {0x08: "hardware slowdown", 0x20: "too hot", 0x40: "too hot (hardware)", 0x80: "power brake"}
TOLD = {0x04: "power cap", **SLOWED}


def nvml_handle(device: torch.device) -> Any:
    """Return NVML's handle of a CUDA device, found by its UUID: NVML ignores CUDA_VISIBLE_DEVICES."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


@contextmanager
def watch(device: torch.device) -> Iterator[dict[str, Any]]:
    """Fill the yielded dict, at the end of the block, with what the machine did during it."""
    found: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 2)}
    samples: list[dict[str, Any]] = []
    stop = threading.Event()
    sampler = threading.Thread(target=_sample, args=(device, samples, stop), daemon=True)
    if device.type == "cuda":
        sampler.start()
    try:
        yield found
    finally:
        stop.set()
        if sampler.is_alive():
            sampler.join()
        found["load_after"] = round(os.getloadavg()[0], 2)
        found["cpu_mhz"] = cpu_mhz()
        found.update(summary(samples))


def cpu_mhz() -> float | None:
    """Return the mean frequency of the cores, None where the system does not tell."""
    import psutil

    frequency = psutil.cpu_freq()
    return round(frequency.current) if frequency else None


def summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the span of clocks, temperature and power, the reasons for slowing down, and the other users."""
    if not samples:
        return {}
    spans = {
        name: [min(values), statistics.median(values), max(values)]
        for name in ("sm_clock_mhz", "temperature_c", "power_w")
        if (values := [s[name] for s in samples])
    }
    bits = 0
    for sample in samples:
        bits |= sample["reasons"]
    told = [name for bit, name in TOLD.items() if bits & bit]
    slowed = [name for bit, name in SLOWED.items() if bits & bit]
    return {**spans, "reasons": told, "throttled": slowed, "other_users": max(s["others"] for s in samples)}


def _sample(device: torch.device, samples: list[dict[str, Any]], stop: threading.Event) -> None:
    import pynvml

    handle, own = nvml_handle(device), _suite()
    while not stop.is_set():
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        samples.append(
            {
                "sm_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
                "temperature_c": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
                "power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
                "reasons": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
                "others": sum(process.pid not in own for process in processes),
            }
        )
        stop.wait(PERIOD)


def _suite() -> set[int]:
    """Return the processes that belong to this suite: ours, and those of cases that wait for their turn."""
    import psutil

    return {os.getpid(), *(child.pid for child in psutil.Process(os.getppid()).children(recursive=True))}
