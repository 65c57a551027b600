"""The verbs `train`, which launchers start in every rank too, and `plan`, which takes the same options."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from ... import address
from ...errors import UserError
from ...spec import Clip, Recipe
from ..device import resolve_device
from ..training.job import Job, adjust, find_recipe
from ..training.machines import Machines
from . import fields
from .options import Device, ModelOption, model_options


@fields.offers(Job, Machines, Recipe, Clip)
def train(
    model: Annotated[str | None, typer.Argument(help="Address of the model, such as video_swin/t.")] = None,
    job: Annotated[Path | None, typer.Option(help="Repeat a run: its OUT/job.json. Other options replace.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of one of the model's recipes, or a JSON file.")] = None,
    option: ModelOption = None,
    device: Device = None,
    local_rank: Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)] = 0,
    **given: str | bool | None,
) -> None:
    """Train a model through the DeepSpeed launcher.

    Example: reelbench train video_swin/t --data k400_train.parquet --val k400_val.parquet --recipe kinetics400 --gpus 8

    The same options go to `deepspeed --num_gpus 8 --module reelbench.harness.training …`, to torchrun and to srun.
    With --probe, a head alone is trained on the features of the frozen encoder, in this process.

    Pairs are written "A=B C=D", other lists A,B; `none` empties what may be empty.
    """
    from ..training import launch

    machines = Machines(**fields.read(Machines, given))
    wanted = describe(model, job, recipe, device, given, option)
    if wanted.probe is not None:
        from .. import probe

        raise typer.Exit(probe.run(wanted, machines))
    raise typer.Exit(launch.run(wanted, machines))


@fields.offers(Job, Machines, Recipe, Clip)
def plan(
    model: Annotated[str | None, typer.Argument(help="Address of the model, such as video_swin/t.")] = None,
    job: Annotated[Path | None, typer.Option(help="Plan to repeat a run: its OUT/job.json.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of one of the model's recipes, or a JSON file.")] = None,
    option: ModelOption = None,
    device: Device = None,
    seconds: Annotated[float, typer.Option(min=1, help="Time to measure for.")] = 60,
    **given: str | bool | None,
) -> None:
    """Measure a training's step and decoder for a minute, and say what the whole training needs.

    Example: reelbench plan video_swin/t --recipe kinetics400 --gpus 8 --data k400_train.parquet

    The options are those of `train`: hours, memory, decoding and disk are for that command. What is assumed is named.
    """
    from .. import plan as planning

    machines = Machines(**fields.read(Machines, given))
    print(planning.to_text(planning.plan(describe(model, job, recipe, device, given, option), machines.total, seconds)))


def describe(
    model: str | None,
    file: Path | None,
    recipe: str | None,
    device: str | None,
    given: fields.Given,
    options: list[str] | None = None,
) -> Job:
    """Return a new job, or that of `file`, with the given options applied.

    The file's recipe stays unless `recipe` names another, its clip unless `model`, `recipe` or --clip does. Without
    `device` it is the file's, or the GPU if there is one. Raises UserError without model or data.
    """
    base = None if file is None else Job.read(file)
    name = model or (base and base.model)
    if name is None:
        raise UserError("no model: `reelbench train MODEL --data INDEX`, or --job OUT/job.json to repeat a run")
    asked = fields.read(Recipe, given)
    keeps_clip = model is None and recipe is None and "clip" not in asked
    job = fields.read(Job, given)
    probe = job.get("probe", base and base.probe) is not None
    goes_on = base is not None and recipe is None and probe == (base.probe is not None)
    chosen = adjust(base.recipe if base and goes_on else find_recipe(name, recipe, probe=probe), **asked)
    own = {
        **job,
        "model": name,
        "recipe": chosen,
        "clip": _clip(name, chosen, base if keeps_clip else None, given),
        "device": resolve_device(device or (base and base.device)),
    }
    if options:
        own["options"] = {**(base.options if base and model is None else {}), **model_options(name, options)}
    elif base and model is not None and address.absolute(model) != base.model:
        own["options"] = {}
    if base is not None:
        return dataclasses.replace(base, **own)
    if "data" not in own:
        raise UserError("no data: --data INDEX (see `reelbench data index --help`)")
    return Job(**own)


def _clip(model: str, recipe: Recipe, base: Job | None, given: fields.Given) -> Clip:
    """Return the clip of the repeated run, the recipe or the model, in this order, with the given options applied."""
    from ... import models

    changes = fields.read(Clip, given)
    return models.choose_clip(model, recipe, base and base.clip, changes=changes)
