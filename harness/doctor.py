"""`reelbench doctor`: checks everything that a run depends on, with remedies for what is missing."""

from __future__ import annotations

import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from .measuring.environment import gpus


@dataclass(frozen=True)
class Check:
    """One check of `doctor`: whether it passed, its result, and the remedy, to be shown only if it did not pass.

    Those that are `needed` decide the exit code.
    """

    name: str
    ok: bool
    result: str
    remedy: str = ""
    needed: bool = True


def checks() -> list[Check]:
    """Run all checks; a failed check that is `needed` makes `doctor` exit with 1."""
    return [*_build_tools(), _import("nvidia.dali"), _import("deepspeed"), _shared_memory(), *_gpu_checks()]


def _build_tools() -> list[Check]:
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    compiler = shutil.which("g++")
    why = "torch.compile builds kernels with it"
    tools = (
        ("g++", compiler is not None, compiler or "missing", "install g++"),
        ("python headers", header.exists(), str(header), "install the Python development headers"),
    )
    return [Check(name, ok, found, f"{remedy} ({why})", needed=False) for name, ok, found, remedy in tools]


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
        checks += _nvdec() if cuda else []
    return checks


def _nvdec() -> list[Check]:
    """Return one check per codec: what NVDEC decodes of it according to the driver."""
    from ..pipelines import nvdec

    software = "such videos are decoded in software, by PyAV"
    try:
        found = {codec: nvdec.describe(codec) for codec in nvdec.CODECS}
    except nvdec.Unavailable as error:
        return [Check("NVDEC", False, "nothing is decoded by it", f"{error}; until then {software}", needed=False)]
    return [
        Check(f"NVDEC {codec}", bool(it), it or "not decoded", software, needed=False) for codec, it in found.items()
    ]
