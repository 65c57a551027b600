"""DeepSpeed's launcher: its command line and environment."""

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

    `ranks` processes run on this machine, on the first GPUs of CUDA_VISIBLE_DEVICES; or on the hosts of a `hostfile`,
    through ssh, with the slots named there. With `node_rank` (and a hostfile) every machine is started by hand and
    connects to `master`, an ADDRESS:PORT. Run the command in `environment(device)`. Raises UserError if
    CUDA_VISIBLE_DEVICES names fewer GPUs than ranks.
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
    """Return the start of the command for GPUs in any order, by number or UUID, MIG slices included.

    DeepSpeed's runner accepts only numbers and sorts them; its per-node launcher, called directly here, does not.
    """
    world = base64.urlsafe_b64encode(json.dumps({"localhost": devices}).encode()).decode()
    place = [f"--world_info={world}", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    return [sys.executable, "-u", "-m", "deepspeed.launcher.launch", *place, "--log_level", "error", "--no_local_rank"]


def environment(device: str) -> dict[str, str]:
    """Return the launcher's whole environment; its ranks do not check their job again, so check it first.

    For `cuda`, CUDA_VISIBLE_DEVICES is removed: the launcher must see all GPUs, its `command` selects among them.
    """
    hidden = () if device == "cpu" else (visible.VARIABLE,)
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, **tools(device), CHECKED: "1"}


def tools(device: str) -> dict[str, str]:
    """Return variables that keep DeepSpeed off the GPU for `cpu`, and put this environment's ninja on PATH.

    Another ninja would compile DeepSpeed's extension again. `cpu` also gets the extension's build folder.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if device != "cpu":
        return {"PATH": path}
    return {"PATH": path, "DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": ds_extension.root()}


def free_port() -> int:
    """Return a TCP port that is currently free on the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
