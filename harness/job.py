"""A training job, and the options that describe it: the same for `reelbench train` and the launcher's module.

Read by `reelbench train`, which starts the DeepSpeed launcher, and by `reelbench.harness.train` in every rank.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from .errors import UserError, unknown
from .spec import Clip, Recipe, from_fields

Arguments = list[str]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a training run needs. `data` is the training index, `validation` an optional second one.

    `recipe` and `clip` travel to the ranks as `OUT/recipe.json` and `OUT/clip.json`.
    """

    model: str
    data: Path
    recipe: Recipe
    out: Path
    clip: Clip
    validation: Path | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    workers: int = 2
    seed: int = 0
    init_from: Path | None = None
    deepspeed: Path | None = None
    resume: bool = False

    def arguments(self) -> Arguments:
        """Return the command line that gives this job to every rank."""
        self.out.mkdir(parents=True, exist_ok=True)
        recipe, clip = self.out / "recipe.json", self.out / "clip.json"
        recipe.write_text(json.dumps(dataclasses.asdict(self.recipe), indent=1))
        clip.write_text(json.dumps(dataclasses.asdict(self.clip), indent=1))
        values = {
            "--data": self.data,
            "--val": self.validation,
            "--recipe": recipe,
            "--clip": clip,
            "--out": self.out,
            "--device": self.device,
            "--workers": self.workers,
            "--seed": self.seed,
            "--init-from": self.init_from,
            "--deepspeed": self.deepspeed,
        }
        flags = [text for flag, value in values.items() if value is not None for text in (flag, str(value))]
        return [self.model, *flags, *(["--resume"] if self.resume else [])]


def find_recipe(model: str, name: str | None) -> Recipe:
    """Return a model's own recipe by name, or the one in a JSON file; without a name, the plain defaults."""
    if name is None:
        return Recipe()
    if name.endswith(".json"):
        return _read_json(Recipe, Path(name))
    from .. import models

    recipes = models.find(model).recipes
    if name not in recipes:
        raise unknown(f"recipe of {model}", name, recipes)
    return recipes[name]


def find_clip(model: str, file: Path | None, *, frames: int | None, stride: int | None, size: int | None) -> Clip:
    """Return the model's own clip, or the one in a JSON file, with those numbers replaced that were given."""
    from .. import models

    clip = models.find(model).clip if file is None else _read_json(Clip, file)
    return change(clip, frames=frames, stride=stride, size=size)


def _read_json(kind: type[T], path: Path) -> T:
    try:
        return from_fields(kind, json.loads(path.read_text()))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: give a JSON file of {kind.__name__} fields") from None
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(f"{path}: no {kind.__name__} ({error})") from None


def change(value: T, **flags: Any) -> T:
    """Return the value with those fields replaced that were given on the command line."""
    return dataclasses.replace(value, **{k: v for k, v in flags.items() if v is not None})  # type: ignore[type-var]


def resolve_device(device: str | None) -> Literal["cpu", "cuda"]:
    """Return the device to use: the one asked for, else the GPU where there is one."""
    import torch

    if device not in (None, "cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here: use --device cpu, or see `reelbench doctor`")
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if device == "cuda" else "cpu"


def train(
    model: Annotated[str, typer.Argument(help="Address of the model, such as video_swin/t.")],
    data: Annotated[Path, typer.Option(help="Index of the training videos.")],
    val: Annotated[Path | None, typer.Option(help="Index of the validation videos.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of one of the model's recipes, or a JSON file.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and logs.")] = Path("runs/train"),
    epochs: Annotated[float | None, typer.Option(help="Passes over the data.")] = None,
    batch: Annotated[int | None, typer.Option(help="Global batch, all ranks and accumulation steps.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Gradient accumulation steps.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or sgd.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of the global batch.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.")] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine, step or constant.")] = None,
    warmup_epochs: Annotated[float | None, typer.Option(help="Epochs of linear warm-up.")] = None,
    clip_grad: Annotated[float | None, typer.Option(help="Largest gradient norm; 0 does not clip.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Label smoothing.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16.")] = None,
    zero: Annotated[int | None, typer.Option(help="ZeRO stage 0, 1, 2 or 3.")] = None,
    crop: Annotated[str | None, typer.Option(help="random_resized, multi_scale, random or center.")] = None,
    flip: Annotated[float | None, typer.Option(help="Probability of a left-right flip.")] = None,
    validate_epochs: Annotated[float | None, typer.Option(help="Epochs between validations.")] = None,
    clip: Annotated[Path | None, typer.Option(help="JSON file of the clip; the model's own by default.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a clip.")] = None,
    stride: Annotated[int | None, typer.Option(help="Frames from one to the next, in dense sampling.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels of a clip's side.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda or cpu; the GPU where there is one.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Ranks on this machine (on a CPU: processes).")] = 1,
    hostfile: Annotated[Path | None, typer.Option(help="DeepSpeed hostfile, for several machines.")] = None,
    deepspeed: Annotated[Path | None, typer.Option(help="Your own DeepSpeed JSON, merged.")] = None,
    init_from: Annotated[Path | None, typer.Option(help="Video checkpoint to fine-tune from.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT's newest checkpoint.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Reading processes a rank.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    local_rank: Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)] = 0,
) -> None:
    """Train a model through the DeepSpeed launcher.

    Example: reelbench train video_swin/t --data k400_train.parquet --val k400_val.parquet --recipe kinetics400 --gpus 8

    The same options go to `deepspeed --num_gpus 8 --module reelbench.harness.train …`, to launch it yourself.
    """
    chosen = change(
        find_recipe(model, recipe), epochs=epochs, batch=batch, accumulate=accumulate, optimizer=optimizer, lr=lr,
        weight_decay=weight_decay, schedule=schedule, warmup_epochs=warmup_epochs, clip_grad=clip_grad,
        label_smoothing=label_smoothing, precision=precision, zero=zero, crop=crop, flip=flip,
        validate_epochs=validate_epochs,
    )  # fmt: skip
    job = Job(
        model=model, data=data, recipe=chosen, out=out, validation=val, device=resolve_device(device),
        clip=find_clip(model, clip, frames=frames, stride=stride, size=size), workers=workers, seed=seed,
        init_from=init_from, deepspeed=deepspeed, resume=resume,
    )  # fmt: skip
    run_or_launch(job, ranks=gpus, hostfile=hostfile)


def run_or_launch(job: Job, *, ranks: int, hostfile: Path | None) -> None:
    """Train in this process where a launcher started it, else check the job and start the launcher."""
    import os
    import subprocess

    from . import engine
    from .train import check
    from .train import train as train_here

    if "LOCAL_RANK" in os.environ:
        train_here(job)
        return
    check(job, ranks)
    line = engine.command(job.arguments(), ranks=ranks, hostfile=hostfile)
    raise typer.Exit(subprocess.run(line, env=engine.environment(job.device)).returncode)
