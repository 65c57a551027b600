"""The files of a training run besides weights and checkpoints: logs, class names, skipped videos."""

from __future__ import annotations

import json
from pathlib import Path

TAIL = 4096  # bytes: several lines of a log
PASSED_OVER = "passed_over.json"
CLASSES = "classes.json"  # class names, for `explain` on this run's weights


class Log:
    """The JSON-lines logs `train` and `validation` of a run, to be written by rank 0 only.

    `step` is the number of steps already taken: later rows are truncated, with 0 all of them, and the list of skipped
    videos is deleted.
    """

    def __init__(self, out: Path, step: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        if not step:
            (out / PASSED_OVER).unlink(missing_ok=True)
        for name, last in (("train", step - 1), ("validation", step)):
            kept = [row for row in read_log(out, name) if row["step"] <= last] if step else []
            self._path(name).write_text("".join(json.dumps(row) + "\n" for row in kept))

    def write(self, name: str, row: dict[str, float]) -> None:
        """Append a row, with its `step`, to the log `name`: `train` or `validation`."""
        with self._path(name).open("a") as file:
            file.write(json.dumps(row) + "\n")

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
