"""What a run is: written to OUT/run.json and into every checkpoint, and compared when a run is resumed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import UserError
from ...pipelines.index import Index
from . import checkpoints, durable
from .job import Job

FILE = "run.json"
KEY = "run"  # of a checkpoint's state
# These change what is learned, or which tensors there are; ZeRO's stage, the batch and the EMA are converted.
FIXED = ("model", "options", "data", "clip", "objective", "optimizer", "lr_rules", "decay_rules", "linear_probe")
Record = dict[str, Any]


def describe(job: Job, index: Index) -> Record:
    """Return the record of a job: model, data, clip, every field of its recipe, seed, and the code's version."""
    recipe = dataclasses.asdict(job.recipe)
    del recipe["clip"]  # the job's own is the one that is used
    data = f"{len(index)} videos of {len(index.classes)} classes ({index.fingerprint})"
    clip = dataclasses.asdict(job.clip)
    made = {"model": job.model, "options": dict(job.options), "data": data, "clip": clip, **recipe, "seed": job.seed}
    made["decoder"] = job.decoder
    return json.loads(json.dumps({**made, "version": __version__}))  # tuples become lists, as they do in the file


def write(out: Path, record: Record) -> None:
    """Write OUT/run.json."""
    durable.write(out / FILE, lambda path: path.write_text(json.dumps(record, indent=1)))


def read_saved(checkpoint: Path) -> Record:
    """Return the record in a checkpoint; {} if it was written before there was one."""
    return checkpoints.read_state(checkpoint).get(KEY, {})


def compare(checkpoint: Path, now: Record) -> list[str]:
    """Return `field A -> B` of every setting in which a run differs from the checkpoint that it resumes.

    Raises UserError, naming both values, if one of them is `FIXED`.
    """
    saved = read_saved(checkpoint)
    changed = {name: saved[name] for name in now if name in saved and saved[name] != now[name]}
    for name in FIXED:
        if name in changed:
            before, after = _shown(changed[name], now[name])
            raise UserError(
                f"{checkpoint}: {name} was {before} and is now {after}: take the first one, or start in another --out "
                "(--init-from takes over the weights)"
            )
    return [" -> ".join([f"{name} {changed[name]}", str(now[name])]) for name in changed]


def _shown(before: Any, after: Any) -> tuple[str, str]:
    """Return both values as text, of two clips only the fields that differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [name for name in after if before.get(name) != after[name]]
        first, second = ({name: values.get(name) for name in names} for values in (before, after))
        return str(first), str(second)
    return str(before), str(after)
