"""DeepSpeed's launcher: its command line and the environment that its ranks get."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from . import ds_extension

CHECKED = "REELBENCH_JOB_CHECKED"


def command(
    arguments: list[str],
    *,
    ranks: int = 1,
    hostfile: Path | None = None,
    node_rank: int | None = None,
    master: str | None = None,
    module: str = "reelbench.harness.training",
) -> list[str]:
    """Return the DeepSpeed launcher's command line for `python -m MODULE` with these arguments in every rank.

    `ranks` run on this machine, or those of a `hostfile`, reached by ssh; with `node_rank` every machine is started by
    hand and meets the others at `master`, an ADDRESS:PORT.
    """
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--log_level", "error", "--no_local_rank"]
    place = ["--hostfile", str(hostfile)] if hostfile else ["--num_gpus", str(ranks), "--master_port", str(free_port())]
    if node_rank is not None:
        address, _, port = (master or "").rpartition(":")
        place += ["--no_ssh", "--node_rank", str(node_rank), "--master_addr", address, "--master_port", port]
    return [*launcher, *place, "--module", module, *arguments]


def environment(device: str) -> dict[str, str]:
    """Return the launcher's environment, for a job that was checked."""
    return {**os.environ, **tools(device), CHECKED: "1"}


def tools(device: str) -> dict[str, str]:
    """DeepSpeed is told to stay off the GPU for `cpu`, and finds our ninja on PATH: another one would compile anew."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if device != "cpu":
        return {"PATH": path}
    return {"PATH": path, "DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": ds_extension.root()}


def free_port() -> int:
    """Return a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
