"""What a number was measured on: hardware, driver, versions, commit. `reelbench doctor` prints it with its checks."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
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
    """Return everything about this machine that a measurement depends on, as plain values."""
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
    """Return name, driver, memory, clocks and temperature of each NVIDIA GPU, through NVML; none without a driver."""
    return [nvml.describe(handle) for handle in nvml.handles()]


def _commit() -> str:
    root = Path(__file__).parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True) if (root / ".git").exists() else None
    return found.stdout.strip() if found and found.returncode == 0 else ""


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def threads() -> int:
    """Return how many threads torch is to use for one operation: `OMP_NUM_THREADS`, or else the cores at hand.

    Where torch itself uses fewer, one a physical core, so do we.
    """
    import torch

    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdigit() and int(asked):
        return int(asked)
    return min(torch.get_num_threads(), len(os.sched_getaffinity(0)))


def fix_threads() -> None:
    """Set torch's threads to the one known number: every process that measures begins with this."""
    import torch

    torch.set_num_threads(threads())


def _versions() -> dict[str, str]:
    installed = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}


@dataclass(frozen=True)
class Check:
    """One line of `doctor`: what was looked at, whether it is well, what was found and what to do if not."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True


def checks() -> list[Check]:
    """Look at everything a run depends on; a failed check that is `needed` makes `doctor` exit with 1."""
    return [*_build_tools(), _import("nvidia.dali"), _import("deepspeed"), _shared_memory(), *_gpu_checks()]


def _build_tools() -> list[Check]:
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    compiler, ninja = shutil.which("g++"), shutil.which("ninja")
    why = "DeepSpeed compiles its CPU communication once"
    return [
        Check("g++", compiler is not None, compiler or "missing", f"install g++ ({why})"),
        Check("python headers", header.exists(), str(header), f"install the Python development headers ({why})"),
        Check("ninja", ninja is not None, ninja or "missing", f"pip install ninja, on PATH ({why})"),
    ]


def _import(name: str) -> Check:
    import importlib

    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken wheel may raise anything
        return Check(name, False, f"{type(error).__name__}: {error}", "reinstall it with `make install`")
    return Check(name, True, str(getattr(module, "__version__", "importable")))


def _shared_memory() -> Check:
    free = shutil.disk_usage("/dev/shm").free / 2**20 if Path("/dev/shm").exists() else 0
    remedy = "enlarge /dev/shm (docker: --shm-size=2g): decoding workers hand frames over through it"
    return Check("shared memory", free >= 256, f"{free:.0f} MiB free", remedy)


def _gpu_checks() -> list[Check]:
    import torch

    found = gpus()
    names = ", ".join(g["name"] for g in found) or "none: everything runs on the CPU"
    checks = [Check("GPU", bool(found), names, "install the NVIDIA driver to use a GPU", needed=False)]
    if found:
        cuda = torch.cuda.is_available()
        checks.append(Check("torch CUDA", cuda, str(torch.version.cuda), "install a CUDA build of torch"))
        decoder = ctypes.util.find_library("nvcuvid")
        remedy = "the driver lacks libnvcuvid (containers: NVIDIA_DRIVER_CAPABILITIES=video); videos decode on the CPU"
        checks.append(Check("NVDEC", decoder is not None, decoder or "missing", remedy, needed=False))
    return checks
