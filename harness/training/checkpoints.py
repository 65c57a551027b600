"""The folder of a training's checkpoints, `step_N` each: which are whole, which is next, which are let go.

A checkpoint is whole once it holds `run.json`, which is written last; `latest` names the one to go on from.
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
    """Return the newest whole checkpoint: the one that `latest` names, if it is whole. None is a `UserError`."""
    found = whole(folder)
    if not found:
        raise UserError(f"nothing to resume in {folder}: leave --resume away, or say --no-resume after --job")
    latest = folder / "latest"
    named = folder / (latest.read_text().strip() if latest.exists() else "")
    return named if named in found else found[-1]


def whole(folder: Path) -> list[Path]:
    """Return the checkpoints that were written to their end, in order."""
    return [path for _, path in _saved(folder) if (path / STATE).exists()]


def _saved(folder: Path) -> list[tuple[int, Path]]:
    """Return the (step, folder) of every checkpoint, whole or torn, in order."""
    found = (path for path in folder.glob("step_*") if path.is_dir() and not path.name.endswith(UNIVERSAL))
    return sorted((int(path.name.removeprefix("step_")), path) for path in found)


def universal(checkpoint: Path) -> Path:
    """Return where `convert` puts the form of a checkpoint that any number of ranks can load."""
    return checkpoint.with_name(checkpoint.name + UNIVERSAL)


def fits(folder: Path, ranks: int) -> bool:
    """Whether so many ranks can load the newest checkpoint as it is: without ZeRO all of them read the same file."""
    state = json.loads((newest(folder) / STATE).read_text())
    return state["ranks"] == ranks or state["zero"] == 0


def convert(folder: Path) -> None:
    """Re-cut the newest checkpoint's shards into DeepSpeed's universal form."""
    tag = newest(folder)
    target = universal(tag)
    shutil.rmtree(target, ignore_errors=True)
    converter = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    workers = ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    folders = ["--input_folder", str(tag), "--output_folder", str(target)]
    done = subprocess.run([*converter, *workers, *folders], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{tag} cannot be converted for this number of ranks: {done.stderr.strip()[-300:]}")


def complete(checkpoint: Path, state: dict[str, Any]) -> None:
    """Declare a checkpoint whole, with the state of the run, and name it as the one to go on from."""
    _replace_text(checkpoint / STATE, json.dumps(state))
    _replace_text(checkpoint.parent / "latest", checkpoint.name)


def _replace_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(text)
    temporary.replace(path)


def forget_old(folder: Path, step: int, keep: int) -> None:
    """Keep the newest `keep` checkpoints up to this step; later ones are torn, or of a run that was taken back."""
    upto = [path for number, path in _saved(folder) if number <= step]
    for path in folder.glob("step_*"):
        if path not in upto[-keep:]:
            remove(path)


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint, first of all what says that it is whole."""
    (checkpoint / STATE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)
