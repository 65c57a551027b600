"""Starts the ranks of a training: through DeepSpeed's launcher, or bare, which spares the launcher's own processes."""

from __future__ import annotations

import subprocess
import sys

from reelbench.harness.training import launcher, run_folder
from reelbench.harness.training.job import Job


def environment(**more: object) -> dict[str, str]:
    """Return a checked job's environment: one thread a rank, and nothing of a world that this process is in."""
    mine = {k: v for k, v in launcher.environment("cpu").items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**mine, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in more.items()}}


def place(rank: int = 0, ranks: int = 1, port: int | None = None) -> dict[str, object]:
    """Return what a launcher tells a rank."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port or launcher.free_port()}
    return {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, **address}


def options(made: Job) -> list[str]:
    """Write a job into its folder; return what makes a rank of it."""
    return ["--job", str(made.write())]


def start(line: list[str], **more: object) -> subprocess.Popen[str]:
    """Start a command whose output is read as one text."""
    return subprocess.Popen(
        line, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip


def launched(made: Job, ranks: int = 1, **more: object) -> subprocess.Popen[str]:
    """Start a job through DeepSpeed's launcher."""
    return start(launcher.command(options(made), ranks=ranks), **more)


def bare(made: Job, ranks: int = 1) -> list[subprocess.Popen[str]]:
    """Start a job's ranks themselves."""
    line = [sys.executable, "-m", "reelbench.harness.training", *options(made)]
    port = launcher.free_port()
    return [start(line, **place(rank, ranks, port)) for rank in range(ranks)]


def finish(process: subprocess.Popen[str], *, limit: float = 300) -> tuple[int, str]:
    """Wait for the end; return exit code and all output."""
    output = process.communicate(timeout=limit)[0]
    return process.returncode, output


def losses(made: Job, *processes: subprocess.Popen[str]) -> list[float]:
    """Wait for a job's processes to end well; return the losses of its steps."""
    for process in processes:
        code, output = finish(process)
        assert code == 0, output[-3000:]
    return [row["loss"] for row in run_folder.read_log(made.out)]
