"""DeepSpeed's JIT-compiled extension for shared-memory communication between CPU ranks: build folder, lock, cleanup.

A single rank has nobody to communicate with, and needs neither the extension nor a compiler.
torch builds the extensions of all environments in one folder, where two environments would overwrite each other's
builds; here each environment of each machine gets its own. torch also waits forever for the lock of a killed build.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import socket
import sys
import sysconfig
import tempfile
from pathlib import Path

import psutil

from ...errors import UserError

NAME = "deepspeed_shm_comm"
COMPILING = "compiling DeepSpeed's shared-memory communication for this environment: once, about half a minute"


def root() -> str:
    """Return this environment's build folder, for `TORCH_EXTENSIONS_DIR`; the variable wins if it is set."""
    if chosen := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return chosen
    from torch.utils import cpp_extension

    environment = hashlib.sha256(f"{sys.prefix} {socket.gethostname()}".encode()).hexdigest()[:12]
    return str(Path(cpp_extension.get_default_build_root()) / environment)


def will_compile(device: str, ranks: int) -> bool:
    """Whether the next training run on this device, with this number of ranks, has to compile the extension first."""
    return _is_used(device, ranks) and not (Path(root()) / NAME / f"{NAME}.so").exists()


def _is_used(device: str, ranks: int) -> bool:
    return device == "cpu" and ranks > 1 and sys.platform == "linux"


def check(device: str, ranks: int) -> None:
    """Check that a training run can load the extension if it uses it, and compile it if it will have to.

    Raises UserError if the build folder cannot be written, or compiler, ninja or Python's headers are missing.
    """
    if not _is_used(device, ranks):
        return
    folder = Path(root()) / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # torch writes a lock there, even if nothing is compiled
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}), and DeepSpeed's CPU communication is built there: set "
            "TORCH_EXTENSIONS_DIR to a folder that can"
        ) from None
    if will_compile(device, ranks) and (missing := _missing_tools()):
        raise UserError(
            f"{', '.join(missing)}: not found, and DeepSpeed has to compile its CPU communication once: install it "
            "(`reelbench doctor` lists what is needed)"
        )


def _missing_tools() -> list[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    compiler = (shlex.split(os.environ.get("CXX", "")) or ["c++"])[0]  # what torch takes
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    tools = [tool for tool in (compiler, "ninja") if shutil.which(tool, path=path) is None]
    return tools if header.exists() else [*tools, str(header)]


def remove_stale_lock() -> None:
    """Remove the build lock if no process holds it open any more."""
    lock = Path(root()) / NAME / "lock"
    if lock.exists() and not _is_open(lock):
        lock.unlink(missing_ok=True)


def unlink_shared_memory(port: str = "") -> None:
    """Unlink the ranks' 66 MB shared-memory buffers of this machine, which are then freed when all ranks exit.

    `port` is the one at which the ranks meet, by default this rank's own. Call it only after all ranks have mapped
    their buffers, or when they have ended.
    """
    meeting = port or os.environ.get("MASTER_PORT", "")
    for buffer in Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_{os.getuid()}_*_{meeting}_*"):
        buffer.unlink(missing_ok=True)


def _is_open(lock: Path) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(lock) in {file.path for file in process.open_files()}:
                return True
    return False
