"""What a training run keeps in its folder beside weights and checkpoints: logs, class names, the videos passed over."""

from __future__ import annotations

import json
from pathlib import Path

TAIL = 4096  # bytes: several lines of a log
PASSED_OVER = "passed_over.json"
CLASSES = "classes.json"  # their names, for whoever asks a model of this run


class Log:
    """The JSON-lines files of a run; a resumed run cuts off what it will do again."""

    def __init__(self, out: Path, step: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        for name, last in (("train", step - 1), ("validation", step)):
            kept = [row for row in read_log(out, name) if row["step"] <= last] if step else []
            self._path(name).write_text("".join(json.dumps(row) + "\n" for row in kept))

    def write(self, name: str, row: dict[str, float]) -> None:
        """Append a row."""
        with self._path(name).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _path(self, name: str) -> Path:
        return self.out / f"{name}.jsonl"


def read_log(out: Path, name: str = "train") -> list[dict[str, float]]:
    """Return the rows of a run's `train` or `validation` log; a torn last line is left out."""
    path = out / f"{name}.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def read_passed_over(out: Path) -> list[tuple[str, str]]:
    """Return the (path, reason) of every video that a run passed over."""
    path = out / PASSED_OVER
    return [(video, reason) for video, reason in json.loads(path.read_text())] if path.exists() else []


def steps_done(out: Path) -> int:
    """Return how many steps a run's log holds, from its last whole line alone, however long the log."""
    path = out / "train.jsonl"
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        whole = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
    return json.loads(whole[-1])["step"] + 1 if whole else 0
