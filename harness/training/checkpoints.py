"""The checkpoint folders of a run, `step_N` each: which are complete, which to resume from, which to prune.

A checkpoint is complete once it holds `run.json`, which is written last; `latest` names the one to resume from.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ...errors import UserError

STATE = "run.json"
UNIVERSAL = "_universal"


def newest(folder: Path) -> Path:
    """Return the checkpoint that `latest` names if it is complete, else the newest complete one.

    Raises UserError if there is none.
    """
    found = complete(folder)
    if not found:
        raise UserError(f"nothing to resume in {folder}: leave --resume away, or say --no-resume after --job")
    latest = folder / "latest"
    named = folder / (latest.read_text().strip() if latest.exists() else "")
    return named if named in found else found[-1]


def complete(folder: Path) -> list[Path]:
    """Return the complete checkpoints, ascending by step; universal forms are not listed."""
    return [path for _, path in _saved(folder) if (path / STATE).exists()]


def _saved(folder: Path) -> list[tuple[int, Path]]:
    """Return the (step, folder) of every checkpoint, complete or partial, in order."""
    found = (path for path in folder.glob("step_*") if path.is_dir() and not path.name.endswith(UNIVERSAL))
    return sorted((int(path.name.removeprefix("step_")), path) for path in found)


def universal(checkpoint: Path) -> Path:
    """Return the path of a checkpoint's universal form, which any number of ranks can load; `convert` makes it."""
    return checkpoint.with_name(checkpoint.name + UNIVERSAL)


def fits(folder: Path, ranks: int) -> bool:
    """Whether this many ranks can load the newest checkpoint unconverted: without ZeRO any number can.

    Raises UserError if there is no complete checkpoint.
    """
    state = json.loads((newest(folder) / STATE).read_text())
    return state["ranks"] == ranks or state["zero"] == 0


def convert(folder: Path) -> None:
    """Convert the newest checkpoint's shards to DeepSpeed's universal form, in a folder beside it (see `universal`).

    An earlier conversion is replaced. Raises UserError if that fails, or there is no complete checkpoint.
    """
    tag = newest(folder)
    target = universal(tag)
    shutil.rmtree(target, ignore_errors=True)
    converter = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    workers = ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    folders = ["--input_folder", str(tag), "--output_folder", str(target)]
    done = subprocess.run([*converter, *workers, *folders], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{tag} cannot be converted for this number of ranks: {done.stderr.strip()[-300:]}")


def mark_complete(checkpoint: Path, state: dict[str, Any]) -> None:
    """Mark a checkpoint as complete by writing the run's state, then point `latest` to it."""
    _replace_text(checkpoint / STATE, json.dumps(state))
    _replace_text(checkpoint.parent / "latest", checkpoint.name)


def _replace_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(text)
    temporary.replace(path)


def prune(folder: Path, step: int, keep: int) -> None:
    """Delete all but the newest `keep` (at least 1) of the checkpoints up to this step.

    Later ones, which are partial or from an abandoned run, and all universal forms are deleted too.
    """
    upto = [path for number, path in _saved(folder) if number <= step]
    for path in folder.glob("step_*"):
        if path not in upto[-keep:]:
            remove(path)


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint, its completion marker first."""
    (checkpoint / STATE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)
