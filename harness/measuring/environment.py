"""The environment of a measurement: hardware, driver, package versions, commit. `reelbench doctor` prints it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from ... import __version__
from . import nvml

PACKAGES = (
    "torch",
    "nvidia-dali-cuda130",
    "nvidia-dali-cuda120",
    "deepspeed",
    "fvcore",
    "av",
    "torchmetrics",
    "pandas",
)


def collect() -> dict[str, Any]:
    """Return the hardware and software that a measurement depends on, as JSON-compatible values."""
    import psutil
    import torch

    return {
        "reelbench": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "packages": _versions(),
        "gpus": gpus(),
    }


def gpus() -> list[dict[str, Any]]:
    """Return name, driver, memory, clocks and temperature of each NVIDIA GPU, through NVML; [] without a driver."""
    return [nvml.describe(handle) for handle in nvml.handles()]


def _commit() -> str:
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True) if (root / ".git").exists() else None
    return found.stdout.strip() if found and found.returncode == 0 else ""


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def threads() -> int:
    """Return the number of intra-op threads for torch: `OMP_NUM_THREADS`, or else one per available core.

    Without the variable it is never more than torch's present number, by default one per physical core.
    """
    import torch

    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdigit() and int(asked):
        return int(asked)
    return min(torch.get_num_threads(), len(os.sched_getaffinity(0)))


def fix_threads() -> None:
    """Set torch's intra-op threads to `threads()`; every measuring process starts with this."""
    import torch

    torch.set_num_threads(threads())


def _versions() -> dict[str, str]:
    installed = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}
