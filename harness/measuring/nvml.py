"""What NVML tells of a GPU, one reading at a time: None for each that this device or this container does not give.

A slice of a GPU (MIG), a virtual one or an integrated one lacks some readings, and none of them may end a measurement.
Every call goes through `read`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

# Bits of the reasons for a lower clock that slow a GPU down; the power cap is how a busy one always ends up, so it is
# told but no reason to measure again.
SLOWED = {0x08: "hardware slowdown", 0x20: "too hot", 0x40: "too hot (hardware)", 0x80: "power brake"}
TOLD = {0x04: "power cap", **SLOWED}


def read(name: str, *arguments: Any) -> Any:
    """Return what the NVML function `nvml<name>` says, None where it cannot: no driver, no such reading, no permission.

    `arguments` may name constants (`NVML_CLOCK_SM`); a handle that is None has no reading.
    """
    import pynvml

    if None in arguments:
        return None
    try:
        _start()
        values = (getattr(pynvml, a) if isinstance(a, str) and a.startswith("NVML_") else a for a in arguments)
        return getattr(pynvml, f"nvml{name}")(*values)
    except pynvml.NVMLError:
        return None


@cache
def _start() -> None:
    import pynvml

    pynvml.nvmlInit()  # for the whole process: a counter that is never let go of costs nothing


def handles() -> list[Any]:
    """Return NVML's handle of every GPU here; none without a driver."""
    found = (read("DeviceGetHandleByIndex", index) for index in range(read("DeviceGetCount") or 0))
    return [handle for handle in found if handle is not None]


def handle(device: torch.device) -> Any:
    """Return the handle of the GPU, or the slice of one, that torch computes on; None where NVML does not know it.

    It is found by its UUID, since NVML ignores CUDA_VISIBLE_DEVICES; of a slice torch may know the whole GPU's alone,
    while the variable names the slice.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    own = torch.cuda.get_device_properties(device).uuid
    names = [visible] if visible.startswith("MIG-") else []
    found = (read("DeviceGetHandleByUUID", name) for name in (*names, f"GPU-{own}", f"MIG-{own}"))
    return next((handle for handle in found if handle is not None), None)


def joules(handle: Any) -> float | None:
    """Return the energy that the board has used since the driver was loaded."""
    millijoules = read("DeviceGetTotalEnergyConsumption", handle)
    return None if millijoules is None else millijoules / 1e3


def process_memory(handle: Any) -> int | None:
    """Return the bytes that this process holds on the GPU; None where the driver lists it nowhere, or without them."""
    processes = read("DeviceGetComputeRunningProcesses", handle) or ()
    return next((p.usedGpuMemory for p in processes if p.pid == os.getpid()), None) or None


def look(handle: Any, own: Sequence[int] | set[int]) -> dict[str, Any]:
    """Return clock, temperature, power, reasons for slowing down and the number of processes that are not `own`.

    In a container with process numbers of its own NVML lists those of the host: nobody is told apart where this very
    process is not among them.
    """
    power = read("DeviceGetPowerUsage", handle)
    processes = {process.pid for process in read("DeviceGetComputeRunningProcesses", handle) or ()}
    return {
        "sm_clock_mhz": read("DeviceGetClockInfo", handle, "NVML_CLOCK_SM"),
        "temperature_c": read("DeviceGetTemperature", handle, "NVML_TEMPERATURE_GPU"),
        "power_w": None if power is None else power / 1e3,
        "reasons": read("DeviceGetCurrentClocksThrottleReasons", handle),
        "others": len(processes - set(own)) if os.getpid() in processes else None,
    }


def describe(handle: Any) -> dict[str, Any]:
    """Return name, driver, memory, clocks and temperature of a GPU."""
    memory = read("DeviceGetMemoryInfo", handle)
    return {
        "name": read("DeviceGetName", handle) or "GPU without a name",
        "driver": read("SystemGetDriverVersion"),
        "memory_gib": None if memory is None else round(memory.total / 2**30, 1),
        "sm_clock_mhz": read("DeviceGetClockInfo", handle, "NVML_CLOCK_SM"),
        "memory_clock_mhz": read("DeviceGetClockInfo", handle, "NVML_CLOCK_MEM"),
        "temperature_c": read("DeviceGetTemperature", handle, "NVML_TEMPERATURE_GPU"),
    }
