"""DeepSpeed's launcher: its command line and environment."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import sys
from pathlib import Path

from .. import lineage
from ..lock import this_process
from . import visible

CHECKED = "REELBENCH_JOB_CHECKED"
STARTER = "REELBENCH_STARTED_BY"


def command(
    arguments: list[str],
    *,
    ranks: int = 1,
    device: str = "cpu",
    hostfile: Path | None = None,
    node_rank: int | None = None,
    master: str | None = None,
    module: str = "reelbench.harness.training",
) -> list[str]:
    """Return the DeepSpeed launcher's command line for `python -m MODULE` with these arguments in every rank.

    `ranks` processes run on this machine, on the first GPUs of CUDA_VISIBLE_DEVICES; or on the hosts of a `hostfile`,
    through ssh, with the slots named there. With `node_rank` (and a hostfile) every machine is started by hand and
    connects to `master`, an ADDRESS:PORT. Run the command in `environment(device)`. Raises UserError if
    CUDA_VISIBLE_DEVICES names fewer GPUs than ranks.
    """
    if hostfile is None:
        return [*_on_this_machine(ranks, device), "--module", module, *arguments]
    place = ["--hostfile", str(hostfile)]
    if node_rank is not None:
        address, _, port = (master or "").rpartition(":")
        place += ["--no_ssh", "--node_rank", str(node_rank), "--master_addr", address, "--master_port", port]
    runner = [sys.executable, "-m", "deepspeed.launcher.runner", "--log_level", "error", "--no_local_rank"]
    return [*runner, *place, "--module", module, *arguments]


def _on_this_machine(ranks: int, device: str) -> list[str]:
    """Return the start of the command for this machine: DeepSpeed's launcher of one machine, called directly.

    Its runner of several accepts GPUs only by number, sorts them, and ends with 0 if the launcher below it was killed.
    """
    named = [] if device == "cpu" else visible.devices(ranks, os.environ)
    world = base64.urlsafe_b64encode(json.dumps({"localhost": named or [*range(ranks)]}).encode()).decode()
    place = [f"--world_info={world}", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    quiet = ["--log_level", "critical", "--no_local_rank"]  # a rank has said why it ends
    return [sys.executable, "-u", "-m", "deepspeed.launcher.launch", *place, *quiet]


def environment(device: str) -> dict[str, str]:
    """Return the launcher's whole environment; its ranks do not check their job again, so check it first.

    The ranks end with this process (see `end_with_starter`). For `cuda`, CUDA_VISIBLE_DEVICES is removed: the launcher
    must see all GPUs, its `command` selects among them.
    """
    hidden = () if device == "cpu" else (visible.VARIABLE,)
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, **tools(device), CHECKED: "1", STARTER: this_process()}


def starter() -> str:
    """Return the process that called `environment` for this one, as `lock.this_process` names it; "" for none."""
    return os.environ.get(STARTER, "")


def end_with_starter() -> None:
    """End this rank once its launcher or its starter is gone, both on this machine."""
    lineage.end_with(lineage.parent_gone())
    found = re.fullmatch(r"process (\d+) on (.+)", starter())
    if found and found[2] == socket.gethostname():
        lineage.end_with(lineage.process_gone(int(found[1])))


def tools(device: str) -> dict[str, str]:
    """Return variables that keep DeepSpeed off the GPU for `cpu`, and put this environment's ninja on PATH.

    DeepSpeed needs ninja where a user's own configuration asks for an operator that it compiles.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"PATH": path, **({"DS_ACCELERATOR": "cpu"} if device == "cpu" else {})}


def free_port() -> int:
    """Return a TCP port that is currently free on the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
