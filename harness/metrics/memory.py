"""Peak memory of one forward pass, in MiB, by four separate measures.

`memory_allocated_mib` and `memory_reserved_mib` are the CUDA allocator's peaks, `memory_process_mib` NVML's figure for
this process after the pass (GPU only, omitted if not available); `memory_resident_mib` is the peak resident set size on
the host, libraries included (Linux only). Peaks are reset beforehand, as far as the system permits. A CUDA graph
replays in a private memory pool, which the allocated peak does not see: that peak is omitted then, and the reserved
memory includes the pool.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ...result import Metric
from ..measuring import execution, nvml, timing
from . import Subject

MIB = 2**20
GRAPHS = ("cuda_graphs", "compile_max_autotune")  # modes that replay: max-autotune captures what it has compiled


def measure(subject: Subject) -> dict[str, Metric]:
    """Run one forward pass at the case's batch (1 when the harness chooses the batch) and read the peaks."""
    batch = subject.case.batch or 1
    convention = f"forward pass, batch {batch}, {subject.convention}"
    clip = subject.example(batch)
    with subject.timer.phase("warm_up"):
        subject.forward(clip)
    reset_resident_peak()
    if subject.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(subject.device)
    with subject.timer.phase("measured"):
        subject.forward(clip)
        timing.synchronize(subject.device)
    found = {"memory_resident_mib": resident_peak()}
    if subject.device.type == "cuda":
        found.update(_on_card(subject.device, subject.case.mode))
        if found["memory_process_mib"] is None:
            subject.lacks("memory of the process")
    conventions: dict[str, str] = {}
    if subject.case.mode in GRAPHS:
        conventions["memory_reserved_mib"] = f"{convention}, the graph's pool included"
    if subject.case.precision in (*execution.CAST, "fp8"):
        conventions["memory_resident_mib"] = f"{convention}, the fp32 weights that are counted included"
    return {
        name: Metric(value=value, unit="MiB", convention=conventions.get(name, convention))
        for name, value in found.items()
        if value is not None
    }


def _on_card(device: torch.device, mode: str) -> dict[str, float | None]:
    """Return the allocator's peaks and NVML's figure for this process, None where not available."""
    process = nvml.process_memory(nvml.handle(device))
    return {
        "memory_allocated_mib": None if mode in GRAPHS else torch.cuda.max_memory_allocated(device) / MIB,
        "memory_reserved_mib": torch.cuda.max_memory_reserved(device) / MIB,
        "memory_process_mib": None if process is None else process / MIB,
    }


def reset_resident_peak() -> None:
    """Forget this process's peak so far, as far as the system permits."""
    # Writing 5 resets the kernel's high-water mark of this process (proc(5), clear_refs).
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def resident_peak() -> float | None:
    """Return this process's peak resident set in MiB, libraries included; None but on Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024
