"""The folder of a training run: whether it holds one, what starting anew deletes, its logs and lists."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ...errors import UserError
from ..lock import lock
from . import checkpoints, durable, launcher
from .job import Job

TAIL = 4096  # bytes: several lines of a log
CHECKPOINTS = "checkpoints"
PASSED_OVER = "passed_over.json"
CLASSES = "classes.json"  # class names, for `explain` on this run's weights
WEIGHTS = ("best.safetensors", "last.safetensors")


@contextmanager
def claim(job: Job) -> Iterator[None]:
    """Lock OUT for the block: the process that starts the ranks does it, or rank 0 where that is on another machine.

    Raises UserError if another run is going on there, or OUT holds one that the job neither resumes nor overwrites.
    """
    with lock(job.out, run=launcher.starter()):
        _check_empty(job)
        yield


def check_writable(out: Path) -> None:
    """Make the folder if needed. Raises UserError if it is a file, or cannot be written to."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file: name a folder for the run")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written to: {error.strerror}: choose another folder") from None


def _check_empty(job: Job) -> None:
    """Raise UserError if OUT holds checkpoints or weights of a run, which the job would replace unasked."""
    out = job.out
    if job.resume or job.overwrite:
        return
    found = checkpoints.complete(out / CHECKPOINTS)
    if found:
        step = checkpoints.read_state(found[-1]).get("step")
        raise UserError(
            f"{out} holds a run at step {step}: --resume to go on, --overwrite to start anew, or choose another --out"
        )
    if any((out / name).exists() for name in WEIGHTS):
        raise UserError(f"{out} holds the weights of a run: --overwrite to start anew, or choose another --out")


def clear(out: Path) -> None:
    """Delete a run's checkpoints, weights, logs and lists; other files in the folder stay."""
    for path in checkpoints.ours(out / CHECKPOINTS):
        checkpoints.remove(path)
    for name in (*WEIGHTS, PASSED_OVER, f"{CHECKPOINTS}/latest", "train.jsonl", "validation.jsonl"):
        (out / name).unlink(missing_ok=True)


def check_space(out: Path, checkpoint: int, weights: int, count: int) -> None:
    """Raise UserError if the disk lacks room for `count` checkpoints and two files of weights; all sizes in bytes.

    What the folder already holds of them counts as room. `out` must exist.
    """
    mine = [*checkpoints.ours(out / CHECKPOINTS), *(out / name for name in WEIGHTS)]
    held = sum(file.stat().st_size for path in mine for file in (path, *path.rglob("*")) if file.is_file())
    free, needed = shutil.disk_usage(out).free + held, count * checkpoint + 2 * weights
    if free < needed:
        raise UserError(
            f"{out}: {free / 2**20:.0f} MiB free, but {count} checkpoints of {checkpoint / 2**20:.0f} MiB and the "
            f"weights take {needed / 2**20:.0f}: free some, lower --keep, or choose another --out"
        )


class Log:
    """The JSON-lines logs `train` and `validation` of a run, to be written by rank 0 only.

    `step` is the number of steps already taken: later rows are truncated, with 0 all of them, and the list of skipped
    videos is deleted. `error` says why a row could not be written, "" if all were; the rows after it are left out.
    """

    def __init__(self, out: Path, step: int) -> None:
        self.out, self.error = out, ""
        if not step:
            (out / PASSED_OVER).unlink(missing_ok=True)
        for name, last in (("train", step - 1), ("validation", step)):
            kept = [json.dumps(row) + "\n" for row in read_log(out, name) if row["step"] <= last] if step else []
            with durable.one_line(out):
                out.mkdir(parents=True, exist_ok=True)
                durable.write(self._path(name), partial(Path.write_text, data="".join(kept)))

    def write(self, name: str, row: dict[str, float]) -> None:
        """Append a row, with its `step`, to the log `name`: `train` or `validation`."""
        if self.error:
            return
        try:
            with self._path(name).open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            self.error = str(durable.failed(self.out, durable.reason(error, self.out)))

    def _path(self, name: str) -> Path:
        return self.out / f"{name}.jsonl"


def read_log(out: Path, name: str = "train") -> list[dict[str, float]]:
    """Return the rows of a run's `train` or `validation` log, without a partial last line; [] if there is no log."""
    path = out / f"{name}.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def read_passed_over(out: Path) -> list[tuple[str, str]]:
    """Return the (path, reason) of every video that a run skipped; [] without any, or before its end."""
    path = out / PASSED_OVER
    return [(video, reason) for video, reason in json.loads(path.read_text())] if path.exists() else []


def steps_done(out: Path) -> int:
    """Return the number of steps in a run's log, read from its last complete line only; 0 if there is none."""
    path = out / "train.jsonl"
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        complete = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
    return json.loads(complete[-1])["step"] + 1 if complete else 0
