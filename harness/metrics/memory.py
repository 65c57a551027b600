"""Four memories, never mixed: what the allocator held, what it reserved, what the driver and the kernel see.

`memory_allocated_mib` and `memory_reserved_mib` are the CUDA allocator's peaks, `memory_process_mib` is NVML's figure
for this process, `memory_resident_mib` is the peak resident set, libraries included. All in MiB, during one forward
pass, whatever came before reset. The first three exist on a GPU only.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ...result import Metric
from ..measuring import timing
from ..measuring.machine import nvml_handle
from . import Subject

MIB = 2**20


def measure(subject: Subject) -> dict[str, Metric]:
    """Run one forward pass at the case's batch (1 when the harness chooses the batch) and read the peaks."""
    batch = subject.case.batch or 1
    convention = f"forward pass, batch {batch}, {subject.convention}"
    clip = subject.example(batch)
    with subject.clock.part("warm_up"):
        subject.forward(clip)
    _reset_resident_peak()
    if subject.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(subject.device)
    with subject.clock.part("measured"):
        subject.forward(clip)
        timing.synchronize(subject.device)
    found = {"memory_resident_mib": _resident_peak()}
    if subject.device.type == "cuda":
        found["memory_allocated_mib"] = torch.cuda.max_memory_allocated(subject.device) / MIB
        found["memory_reserved_mib"] = torch.cuda.max_memory_reserved(subject.device) / MIB
        found["memory_process_mib"] = _nvml_process(subject.device)
    return {k: Metric(value=v, unit="MiB", convention=convention) for k, v in found.items() if v is not None}


def _reset_resident_peak() -> None:
    """Writing 5 resets the kernel's high-water mark of this process (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _resident_peak() -> float | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def _nvml_process(device: torch.device) -> float | None:
    import pynvml

    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(nvml_handle(device))
    used = [p.usedGpuMemory for p in processes if p.pid == os.getpid() and p.usedGpuMemory]
    return used[0] / MIB if used else None
