"""DeepSpeed's launcher: its command line and the environment that its ranks get."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from pathlib import Path

from . import ds_extension, visible

CHECKED = "REELBENCH_JOB_CHECKED"


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

    `ranks` run on this machine, on the first of the GPUs that CUDA_VISIBLE_DEVICES names; or those of a `hostfile`,
    reached by ssh; with `node_rank` every machine is started by hand and meets the others at `master`, an ADDRESS:PORT.
    Fewer GPUs than ranks are a `UserError`.
    """
    devices = [] if device == "cpu" or hostfile else visible.devices(ranks, os.environ)
    if not visible.ascending(devices):
        return [*_launcher_as_named(devices), "--module", module, *arguments]
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--log_level", "error", "--no_local_rank"]
    here = ["--include", f"localhost:{','.join(devices)}"] if devices else ["--num_gpus", str(ranks)]
    place = ["--hostfile", str(hostfile)] if hostfile else [*here, "--master_port", str(free_port())]
    if node_rank is not None:
        address, _, port = (master or "").rpartition(":")
        place += ["--no_ssh", "--node_rank", str(node_rank), "--master_addr", address, "--master_port", port]
    return [*launcher, *place, "--module", module, *arguments]


def _launcher_as_named(devices: list[str]) -> list[str]:
    """Return the start of the command for GPUs in any order, or slices of one, by number or by UUID.

    DeepSpeed's runner takes numbers only, and sorts them. What it starts on each machine hands them on as they are.
    """
    world = base64.urlsafe_b64encode(json.dumps({"localhost": devices}).encode()).decode()
    place = [f"--world_info={world}", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    return [sys.executable, "-u", "-m", "deepspeed.launcher.launch", *place, "--log_level", "error", "--no_local_rank"]


def environment(device: str) -> dict[str, str]:
    """Return the launcher's environment, for a job that was checked.

    The launcher is to see all GPUs: which of them the ranks get stands in its `command`.
    """
    hidden = () if device == "cpu" else (visible.VARIABLE,)
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, **tools(device), CHECKED: "1"}


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
