"""Start a training job: in this process if DeepSpeed, torchrun or srun started it, else through DeepSpeed's launcher.

SIGTERM and SIGUSR1 are forwarded to the ranks as SIGUSR1: they save a checkpoint, and the command exits with 0.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping

import typer

from ...errors import UserError
from . import launcher, rendezvous
from .job import Job
from .machines import Machines
from .signals import block_signals


def run(job: Job, machines: Machines) -> None:
    """Train as one of the ranks and return, or start the ranks, wait, and raise typer.Exit with the launcher's code.

    In a rank `machines` is only compared with the launcher's. Otherwise OUT/job.json is written, and SIGTERM and
    SIGUSR1 stay redirected to the ranks. Raises UserError on a bad job.
    """
    from .check import check_job
    from .loop import train as train_here

    os.environ.update(slurm_rank(os.environ))
    rendezvous.check(os.environ, machines.ranks)
    if "RANK" in os.environ:
        if launcher.CHECKED not in os.environ:
            check_job(job, int(os.environ["WORLD_SIZE"]))
        train_here(job)
        return
    check_job(job, machines.total)
    _check_gpus(job, machines)
    line = launcher.command(
        ["--job", str(job.write())], ranks=machines.ranks, device=job.device, hostfile=machines.hostfile,
        node_rank=machines.node_rank, master=machines.master,
    )  # fmt: skip
    with block_signals():
        process = subprocess.Popen(line, env=launcher.environment(job.device))
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda *_: ask_to_stop(process.pid))
    raise typer.Exit(process.wait())


def _check_gpus(job: Job, machines: Machines) -> None:
    import torch

    if job.device == "cuda" and machines.hostfile is None and machines.ranks > torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(f"--gpus {machines.ranks}, but torch sees only {count} GPU{'s' * (count != 1)}: lower --gpus")


def again(arguments: list[str], *, ranks: int, device: str) -> int:
    """Run `reelbench` with these arguments in `ranks` processes on this machine; return the launcher's exit code."""

    line = launcher.command(arguments, ranks=ranks, device=device, module="reelbench.harness.cli")
    return subprocess.run(line, env=launcher.environment(device)).returncode


def ask_to_stop(launcher: int) -> None:
    """Send SIGUSR1 to the ranks below DeepSpeed's launcher (its process id), but not to their children."""
    import psutil

    for process in psutil.Process(launcher).children(recursive=True):
        parent = process.parent()
        if parent is not None and "deepspeed.launcher.launch" in parent.cmdline():
            process.send_signal(signal.SIGUSR1)


def slurm_rank(environment: Mapping[str, str]) -> dict[str, str]:
    """Translate `srun`'s variables to those of torch.distributed; {} if RANK is set or there is no parallel step."""
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if "RANK" in environment or tasks == 1:
        return {}
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "MASTER_ADDR": environment.get("MASTER_ADDR", first_host(environment["SLURM_STEP_NODELIST"])),
        "MASTER_PORT": environment.get("MASTER_PORT", str(20_000 + int(environment["SLURM_JOB_ID"]) % 20_000)),
    }


def first_host(nodes: str) -> str:
    """Return the first host of a SLURM node list. Raises UserError if it names none.

    >>> first_host("gpu[03-05,9],cpu1")
    'gpu03'
    """
    match = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)
    if match is None:
        raise UserError(f"SLURM_STEP_NODELIST={nodes!r} names no host: set MASTER_ADDR")
    return "".join(part or "" for part in match.groups())
