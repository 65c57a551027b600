"""The checkpoint folders of a run, `step_N` each: which are complete, which to resume from, which to prune.

A checkpoint is written as `step_N.part`, synced to disk, and renamed. It is complete if it holds every file that its
`run.json` lists, in the size listed there; `latest` names the one to resume from. Other names are left alone.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from ...errors import UserError
from . import durable
from .durable import PART

STATE = "run.json"
FILES = "files"  # key of the state: {name: bytes} of the checkpoint's other files
UNIVERSAL = "_universal"
CHECKPOINT = re.compile(r"step_(\d+)(\.part)?")
OURS = re.compile(r"step_\d+(\.part)?(_universal)?")


def newest(folder: Path) -> Path:
    """Return the checkpoint that `latest` names if it is complete, else the newest complete one.

    Raises UserError if there is none.
    """
    found = complete(folder)
    if not found:
        damage = "".join(f"; {path.name}: {fault(path)}" for path in _saved(folder))
        raise UserError(f"nothing to resume in {folder}{damage}: leave --resume away, or say --no-resume after --job")
    named = folder / _latest(folder)
    return named if named in found else found[-1]


def newer_damaged(folder: Path) -> list[str]:
    """Return `NAME: what is wrong` of the checkpoints that would be resumed from if they were complete."""
    chosen = newest(folder)
    later = [path for path in _saved(folder) if _step(path) > _step(chosen) and path.suffix != PART]
    named = [folder / _latest(folder)] if _latest(folder) not in ("", chosen.name) else []
    return [f"{path.name}: {wrong}" for path in dict.fromkeys([*named, *later]) if (wrong := fault(path))]


def complete(folder: Path) -> list[Path]:
    """Return the complete checkpoints, ascending by step; universal forms are not listed."""
    return [path for path in _saved(folder) if not fault(path)]


def fault(checkpoint: Path) -> str:
    """Return in words why a checkpoint is not complete; "" if it is. One without a list of files is taken as it is."""
    try:
        sizes = read_state(checkpoint).get(FILES, {})
    except (OSError, ValueError, AttributeError):
        return f"no readable {STATE}, so it was not written to its end"
    for name, size in sizes.items():
        path = checkpoint / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            return f"{name} is missing" if found is None else f"{name} has {found} of {size} bytes"
    return ""


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the state that was saved with a checkpoint. Raises OSError or ValueError if there is none."""
    return json.loads((checkpoint / STATE).read_text())


def _latest(folder: Path) -> str:
    path = folder / "latest"
    return path.read_text().strip() if path.exists() else ""


def _step(path: Path) -> int:
    match = CHECKPOINT.fullmatch(path.name)
    return int(match[1]) if match else -1


def _saved(folder: Path) -> list[Path]:
    """Return every checkpoint, complete or not, by step; of one step the one that is not a part comes last."""
    found = [p for p in folder.glob("step_*") if CHECKPOINT.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=lambda path: (_step(path), path.suffix != PART))


def part(folder: Path, step: int) -> Path:
    """Return the folder that a checkpoint is written to before it is complete."""
    return folder / f"step_{step}{PART}"


def universal(checkpoint: Path) -> Path:
    """Return the path of a checkpoint's universal form, which any number of ranks and any ZeRO stage can load."""
    return checkpoint.with_name(checkpoint.name + UNIVERSAL)


def begin(written: Path) -> None:
    """Make an empty folder for a checkpoint to be written. Raises UserError if that fails."""
    remove(written)  # an interrupted run may have left it
    with durable.one_line(written.parent):
        written.mkdir(parents=True)


def finish(written: Path, state: dict[str, Any]) -> None:
    """Complete a checkpoint whose files are on disk: list them in its state, rename it, then point `latest` to it.

    Raises UserError if that fails.
    """
    with durable.one_line(written.parent):
        files = [path for path in sorted(written.rglob("*")) if path.is_file()]
        durable.sync_folder(written)
        listed = {**state, FILES: {str(path.relative_to(written)): path.stat().st_size for path in files}}
        durable.write(written / STATE, lambda path: path.write_text(json.dumps(listed)))
        final = written.with_suffix("")
        remove(final)  # of the same step, saved before its validation
        written.rename(final)
        durable.write(final.parent / "latest", lambda path: path.write_text(final.name))


def prune(folder: Path, step: int, keep: int) -> None:
    """Delete all but the newest `keep` (at least 1) complete checkpoints up to this step.

    Later ones, which are damaged or from an abandoned run, and all partial and universal forms are deleted too.
    """
    kept = [path for path in complete(folder) if _step(path) <= step and path.suffix != PART][-keep:]
    for path in ours(folder):
        if path not in kept:
            remove(path)


def ours(folder: Path) -> list[Path]:
    """Return every checkpoint, partial and universal forms included, but nothing else that lies in the folder."""
    return [path for path in folder.glob("step_*") if OURS.fullmatch(path.name) and path.is_dir()]


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint, its completion marker first."""
    with contextlib.suppress(OSError):
        (checkpoint / STATE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)
