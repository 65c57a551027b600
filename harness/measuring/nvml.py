"""NVML readings of a GPU, each None if the device, driver or container does not offer it.

A MIG slice, a virtual or an integrated GPU lacks some readings; that must not end a measurement. Every NVML call goes
through `read`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

# Bits of NVML's throttle reasons that invalidate a measurement; the power cap, which any busy GPU reaches, is reported
# but does not.
SLOWED = {0x08: "hardware slowdown", 0x20: "too hot", 0x40: "too hot (hardware)", 0x80: "power brake"}
REASONS = {0x04: "power cap", **SLOWED}


def read(name: str, *arguments: Any) -> Any:
    """Call the NVML function `nvml<name>`; return None on an NVML error: no driver, not supported, no permission.

    `arguments` may be names of constants (`NVML_CLOCK_SM`); a None among them (no handle) gives None.
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

    pynvml.nvmlInit()  # once per process; never shutting it down costs nothing


def handles() -> list[Any]:
    """Return NVML's handle of every GPU here; none without a driver."""
    found = (read("DeviceGetHandleByIndex", index) for index in range(read("DeviceGetCount") or 0))
    return [handle for handle in found if handle is not None]


def handle(device: torch.device) -> Any:
    """Return the NVML handle of the CUDA device or MIG slice that torch computes on; None if NVML does not know it.

    Looked up by UUID, since NVML ignores CUDA_VISIBLE_DEVICES; for a slice torch may report only the GPU's UUID, while
    the variable names the slice.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    own = torch.cuda.get_device_properties(device).uuid
    names = [visible] if visible.startswith("MIG-") else []
    found = (read("DeviceGetHandleByUUID", name) for name in (*names, f"GPU-{own}", f"MIG-{own}"))
    return next((handle for handle in found if handle is not None), None)


def joules(handle: Any) -> float | None:
    """Return the board's energy counter in joules since the driver was loaded; None if it has none."""
    millijoules = read("DeviceGetTotalEnergyConsumption", handle)
    return None if millijoules is None else millijoules / 1e3


def process_memory(handle: Any) -> int | None:
    """Return this process's GPU memory in bytes; None if the driver does not list the process or its memory."""
    processes = read("DeviceGetComputeRunningProcesses", handle) or ()
    return next((p.usedGpuMemory for p in processes if p.pid == os.getpid()), None) or None


def look(handle: Any, own: Sequence[int] | set[int]) -> dict[str, Any]:
    """Return one sample: SM clock, temperature, power, throttle reasons, number of compute processes not in `own`.

    Each is None if not available; `reasons` is NVML's bit mask. In a container with its own PID namespace NVML lists
    the host's PIDs: `others` is None if this process is not among them.
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
    """Return name, driver, memory, clocks and temperature of a GPU; None for each but the name if not available."""
    memory = read("DeviceGetMemoryInfo", handle)
    return {
        "name": read("DeviceGetName", handle) or "GPU without a name",
        "driver": read("SystemGetDriverVersion"),
        "memory_gib": None if memory is None else round(memory.total / 2**30, 1),
        "sm_clock_mhz": read("DeviceGetClockInfo", handle, "NVML_CLOCK_SM"),
        "memory_clock_mhz": read("DeviceGetClockInfo", handle, "NVML_CLOCK_MEM"),
        "temperature_c": read("DeviceGetTemperature", handle, "NVML_TEMPERATURE_GPU"),
    }
