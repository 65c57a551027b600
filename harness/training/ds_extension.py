"""The extension that DeepSpeed compiles for ranks on a CPU to talk through: where it lies, and what it leaves behind.

torch keeps the extensions of all environments in one folder, where two environments would overwrite each other's at
every turn; here each environment of each machine has its own. And torch waits for the lock of a compilation as long as
it is there, though whoever compiled was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
from pathlib import Path

import psutil

NAME = "deepspeed_shm_comm"
COMPILING = "compiling DeepSpeed's shared-memory communication for this environment: once, about half a minute"


def root() -> str:
    """Return the folder of this environment's extensions, for `TORCH_EXTENSIONS_DIR`; one that is set stays."""
    if chosen := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return chosen
    from torch.utils import cpp_extension

    environment = hashlib.sha256(f"{sys.prefix} {socket.gethostname()}".encode()).hexdigest()[:12]
    return str(Path(cpp_extension.get_default_build_root()) / environment)


def will_compile(device: str) -> bool:
    """Whether the next training on this device compiles."""
    return device == "cpu" and sys.platform == "linux" and not (Path(root()) / NAME / f"{NAME}.so").exists()


def forget_dead_lock() -> None:
    """Remove the lock of a compilation whose process is gone."""
    lock = Path(root()) / NAME / "lock"
    if lock.exists() and not _held(lock):
        lock.unlink(missing_ok=True)


def forget_buffer(rank: int) -> None:
    """Remove the name of a rank's shared memory, 66 MB, once all ranks have opened it: it then ends when they do."""
    place = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    name = "_".join(["deepspeed_allreduce_buffer", str(os.getuid()), *place, str(rank)])
    (Path("/dev/shm") / name).unlink(missing_ok=True)


def _held(lock: Path) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(lock) in {file.path for file in process.open_files()}:
                return True
    return False
