"""DeepSpeed's configuration, from the recipe and the job's options, merged with the user's own JSON file."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...spec import Recipe
from .job import Job

Settings = dict[str, Any]
MONITORS = {"csv": "csv_monitor", "tensorboard": "tensorboard", "wandb": "wandb"}
OURS = ("optimizer", "scheduler", "fp16", "bf16", "amp", "data_types", "managed_gradient_accumulation")


def settings(
    recipe: Recipe,
    *,
    micro_batch: int,
    config: Path | None = None,
    offload: bool = False,
    monitors: tuple[str, ...] = (),
    folder: Path | None = None,
    universal: bool = False,
) -> Settings:
    """Return the complete DeepSpeed configuration of a run.

    `micro_batch` is the batch size per rank and accumulation step. `offload` keeps the optimizer's state, and with
    ZeRO 3 the weights, in CPU memory. `monitors` write to `folder`, except W&B (see `keep_wandb_in`). `universal` loads
    a universal checkpoint, written with another world size. Raises UserError if the user's file `config` cannot be read
    or contradicts the recipe or an option, or if `offload` is set without ZeRO.
    """
    ours: Settings = {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": recipe.accumulate,
        "gradient_clipping": recipe.clip_grad,
        "zero_optimization": {"stage": recipe.zero, **_offload(recipe, offload), **_shard_all(recipe)},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's optimizer works too, and needs no compilation
        "steps_per_print": 10**9,
    }
    dtype = {"bf16": "bfloat16", "fp16": "float16"}.get(recipe.precision)
    if dtype:
        ours["torch_autocast"] = {"enabled": True, "dtype": dtype}
    for name in monitors:
        place = {"project": "reelbench"} if name == "wandb" else {"output_path": str(folder), "job_name": name}
        ours[MONITORS[name]] = {"enabled": True, **place}
    if universal:
        ours["checkpoint"] = {"load_universal": True}
    return ours if config is None else _merge_checked(ours, config, recipe.batch)


def of_job(job: Job, micro_batch: int, *, universal: bool = False) -> Settings:
    """Return DeepSpeed's configuration of a job; arguments and errors as in `settings`."""
    return settings(
        job.recipe, micro_batch=micro_batch, config=job.deepspeed, offload=job.offload, monitors=job.monitors,
        folder=job.out / "monitor", universal=universal,
    )  # fmt: skip


def offloads(made: Settings) -> bool:
    """Whether a configuration keeps the optimizer's state in CPU memory, be it by `--offload` or by the user's file."""
    return bool(made["zero_optimization"].get("offload_optimizer"))


def keep_wandb_in(folder: Path) -> None:
    """Make the folder and set WANDB_DIR to it, unless that is set: DeepSpeed's configuration has no setting for it."""
    if "WANDB_DIR" not in os.environ:
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["WANDB_DIR"] = str(folder)


def _offload(recipe: Recipe, offload: bool) -> Settings:
    if not offload:
        return {}
    if recipe.zero == 0:
        raise UserError("--offload needs ZeRO: add --zero 1, 2 or 3")
    weights: Settings = {"offload_param": {"device": "cpu"}} if recipe.zero == 3 else {}
    return {"offload_optimizer": {"device": "cpu"}, **weights}


def _shard_all(recipe: Recipe) -> Settings:
    """Shard small parameters too under ZeRO 3 with EMA, which averages shards; DeepSpeed otherwise replicates them."""
    return {"stage3_param_persistence_threshold": 0} if recipe.zero == 3 and recipe.ema else {}


def _merge_checked(ours: Settings, config: Path, batch: int) -> Settings:
    theirs = _read(config)
    ours = {**ours, "train_batch_size": batch}
    if "steps_per_print" in theirs:
        del ours["steps_per_print"]
    sections = [name for name in OURS if name in theirs]
    if sections:
        raise UserError(
            f"{config}: {', '.join(sections)}: the recipe decides that: take it out, and use --optimizer, --lr, "
            "--schedule, --precision"
        )
    conflicts = [f"{name}={b!r} against {a!r}" for name, a, b in _both(ours, theirs) if b not in (a, "auto")]
    if conflicts:
        raise UserError(f"{config}: {', '.join(conflicts)}: contradicts the recipe: set it by the recipe's own flags")
    return merge(theirs, ours)


def merge(under: Settings, over: Settings) -> Settings:
    """Deep-merge two configurations; `over` wins where both set a value."""
    merged = dict(under)
    for key, value in over.items():
        below = under.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _both(ours: Settings, theirs: Settings, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted name, ours, theirs) of every value that both configurations set."""
    for key in sorted(ours.keys() & theirs.keys()):
        a, b, name = ours[key], theirs[key], f"{path}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _both(a, b, f"{name}.")
        else:
            yield name, a, b


def _read(config: Path) -> Settings:
    remedy = "name a DeepSpeed JSON file with --deepspeed"
    try:
        read = json.loads(config.read_text(), object_pairs_hook=lambda pairs: _unique(pairs, config))
    except OSError as error:
        raise UserError(f"{config}: {error.strerror}: {remedy}") from None
    except ValueError as error:
        raise UserError(f"{config}: not JSON ({error}): {remedy}") from None
    if not isinstance(read, dict):
        raise UserError(f"{config}: no object but {type(read).__name__}: {remedy}, of the form {{'SECTION': …}}")
    return read


def _unique(pairs: list[tuple[str, Any]], config: Path) -> Settings:
    keys = [key for key, _ in pairs]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"{config}: {', '.join(twice)}: given twice: keep one of them")
    return dict(pairs)


def check_settings(settings: dict[str, Any], source: Path) -> None:
    """Have DeepSpeed read a run's configuration, of which `source` is a part.

    Raises UserError if it refuses a value or does not know a section.
    """
    from deepspeed.runtime.config import DeepSpeedConfig

    read = _Sections(settings)
    read.pop("train_batch_size", None)  # would be held against the number of ranks, which are not started yet
    try:
        with contextlib.redirect_stdout(sys.stderr):
            DeepSpeedConfig(read)
    except Exception as error:  # of many kinds, AssertionError and AttributeError among them
        details = error.errors() if hasattr(error, "errors") else []  # type: ignore[union-attr]
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in details) or str(error)
        raise UserError(f"{source}: DeepSpeed refuses it ({' '.join(said.split())[:200]}): correct it") from None
    if strange := sorted(read.keys() - read.asked_for):
        raise UserError(f"{source}: {', '.join(strange)}: DeepSpeed has no such setting: correct it or take it out")


class _Sections(dict[str, Any]):
    """A configuration that notes which of its sections are asked for: DeepSpeed passes over those it does not know."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.asked_for: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked_for.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked_for.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a section's value, or the default."""
        self.asked_for.add(key)
        return super().get(key, default)
