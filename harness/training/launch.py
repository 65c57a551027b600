"""Start a training job: in this process if DeepSpeed, torchrun or srun started it, else through DeepSpeed's launcher.

SIGTERM, SIGUSR1, Ctrl-C and a hangup are forwarded to the ranks as SIGUSR1: they save a checkpoint, and the command
exits with 0, after Ctrl-C with 130. A second Ctrl-C ends everything at once. If this process is killed, the ranks end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping

from ...errors import INTERRUPTED, Stopped, UserError
from .. import lineage
from . import launcher, rendezvous, run_folder
from .job import Job
from .machines import Machines
from .signals import StopSignal, block_signals

AGAIN = 0.5  # seconds between attempts to forward a signal, until there are ranks


def run(job: Job, machines: Machines) -> int:
    """Train as one of the ranks and return 0, or start the ranks, wait, and return the launcher's exit code.

    In a rank `machines` is only compared with the launcher's. Otherwise OUT is locked, OUT/job.json is written, and
    signals stay redirected to the ranks. Raises UserError on a bad job, and Stopped after a Ctrl-C.
    """
    from .check import check_job

    os.environ.update(slurm_rank(os.environ))
    rendezvous.check(os.environ, machines.ranks)
    if "RANK" in os.environ:
        launcher.end_with_starter()
        from .loop import train as train_here

        if launcher.CHECKED not in os.environ:
            check_job(job, int(os.environ["WORLD_SIZE"]))
        train_here(job)
        return 0
    check_job(job, machines.total)
    _check_gpus(job, machines)
    has_rank_0 = machines.hostfile is None or machines.node_rank == 0
    with run_folder.claim(job) if has_rank_0 else contextlib.nullcontext():
        line = launcher.command(
            rank_arguments(job), ranks=machines.ranks, device=job.device, hostfile=machines.hostfile,
            node_rank=machines.node_rank, master=machines.master,
        )  # fmt: skip
        return _wait(line, job)


def rank_arguments(job: Job) -> list[str]:
    """Write OUT/job.json and return the arguments of a rank."""
    return ["--job", str(job.write()), *(["--overwrite"] if job.overwrite else [])]


def _wait(line: list[str], job: Job) -> int:
    """Run the launcher, forwarding signals, and return the exit code of this command."""
    with block_signals():
        process = subprocess.Popen(line, env=launcher.environment(job.device))

        def end_at_once() -> None:
            lineage.kill_descendants(os.getpid())

        stop, told = StopSignal(at_once=end_at_once), False
    code = None
    while code is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout=AGAIN)
        if code is None and stop.requested and not told:
            told = ask_to_stop(process.pid)
    if ended := _signal(code):
        print(f"reelbench: training was ended by {ended}: --resume goes on from its newest checkpoint", file=sys.stderr)
    if stop.interrupted:
        raise Stopped(INTERRUPTED)
    return code if code >= 0 else 128 - code


def _signal(code: int) -> str:
    """Return the name of the signal that ended the launcher, or a rank (it exits with that rank's code); "" if none."""
    number = -code if code < 0 else 256 - code
    return signal.Signals(number).name if number in [*signal.Signals] else ""


def _check_gpus(job: Job, machines: Machines) -> None:
    import torch

    if job.device == "cuda" and machines.hostfile is None and machines.ranks > torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(f"--gpus {machines.ranks}, but torch sees only {count} GPU{'s' * (count != 1)}: lower --gpus")


def again(arguments: list[str], *, ranks: int, device: str) -> int:
    """Run `reelbench` with these arguments in `ranks` processes on this machine; return the launcher's exit code."""

    line = launcher.command(arguments, ranks=ranks, device=device, module="reelbench.harness.cli")
    return subprocess.run(line, env=launcher.environment(device)).returncode


def ask_to_stop(launcher: int) -> bool:
    """Send SIGUSR1 to the ranks of DeepSpeed's launcher (its process id), but not to their children.

    Returns whether there were any.
    """
    import psutil

    told = False
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(launcher)
        for process in [first, *first.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                if "deepspeed.launcher.launch" in process.cmdline():
                    for rank in process.children():
                        rank.send_signal(signal.SIGUSR1)
                        told = True
    return told


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
