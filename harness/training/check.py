"""Validate a job before any process is started."""

from __future__ import annotations

import importlib.util
import math
import sys

from ... import models
from ...errors import UserError
from ...pipelines import decoder_choice
from ...pipelines.index import Index
from . import checkpoints, ds_config, objective, record, run_folder, stream
from . import engine as ds
from .job import Job
from .schedule import total_steps

SHOWN = 8  # classes without videos, by name


def check_job(job: Job, ranks: int) -> None:
    """Validate model, clip, recipe, monitors and data of a job for this number of ranks on all machines.

    Also that OUT may be written to, and if the job resumes, that there is a checkpoint which fits it; files of weights
    are not read. Raises UserError on the first mistake.
    """
    models.check_clip(job.model, job.clip, job.options)
    models.outline(job.model, num_classes=2, **objective.model_options(job))
    settings = ds_config.of_job(job, ds.micro_batch(job.recipe, ranks))
    if job.deepspeed is not None:
        ds_config.check_settings(settings, job.deepspeed)
    stream.transform(job.recipe)
    for name in job.monitors:
        if name != "csv" and importlib.util.find_spec(name) is None:
            raise UserError(f"--monitor {name} needs its package: pip install {name}")
    index = check_data(job)
    if len(index) < job.recipe.batch:
        raise UserError(f"{job.data}: {len(index)} videos do not fill one batch of {job.recipe.batch}: lower --batch")
    if (job.recipe.objective == "token_label") != (job.annotator is not None):
        raise UserError("token labels need their annotator's weights, and nothing else does: --annotator CHECKPOINT")
    _check_out(job, index)


def check_data(job: Job) -> Index:
    """Check a job's videos, and return the index of those to train on.

    Raises UserError if files are missing, cannot be decoded, or have labels that do not fit the objective.
    """
    index = Index.load(job.data)
    index.verify()
    decoder_choice.check(index, job.decoder, job.device)
    if index.multi_label != (job.recipe.objective == "multilabel") and job.recipe.objective != "maskfeat":
        other = "multilabel" if index.multi_label else "classify"
        raise UserError(
            f"{job.data}: its videos have {'several labels' if index.multi_label else 'one label'} each: "
            f"--objective {other}"
        )
    _check_labels(job, index)
    if job.validation is not None:
        _check_validation(job, index, Index.load(job.validation))
    return index


def _check_out(job: Job, index: Index) -> None:
    """Check that OUT can be written to, may be resumed from, and has room; who else is there, `claim` finds."""
    run_folder.check_writable(job.out)
    if job.resume:
        record.compare(checkpoints.newest(job.out / run_folder.CHECKPOINTS), record.describe(job, index))
    run_folder.check_space(job.out, *sizes(job, index))


def _check_labels(job: Job, index: Index) -> None:
    """Check the labels of an objective that has them, and name the classes that no video shows."""
    if job.recipe.objective == "maskfeat":
        return
    index.check_labels()
    if len(index.classes) < 2 and not index.multi_label:
        raise UserError(
            f"{job.data}: one class ({', '.join(index.classes)}), so there is nothing to tell apart: index the folder "
            "above it, whose sub-folders are the classes"
        )
    shown = {int(label) for labels in index.table["label"] for label in labels}
    if idle := [name for number, name in enumerate(index.classes) if number not in shown]:
        names = ", ".join(idle[:SHOWN]) + ", …" * (len(idle) > SHOWN)
        print(f"{job.data}: {len(idle)} of {len(index.classes)} classes have no video: {names}", file=sys.stderr)


def sizes(job: Job, index: Index) -> tuple[int, int, int]:
    """Return the bytes of a checkpoint and of the weights, and how many checkpoints the disk must hold at once."""
    model = models.outline(job.model, num_classes=len(index.classes), **objective.model_options(job))
    weights, recipe = sum(t.numel() * 4 for t in model.state_dict().values()), job.recipe
    trained = weights if not recipe.linear_probe else 0
    copies = (2 if recipe.optimizer == "adamw" else 1) + bool(recipe.zero) + bool(recipe.ema)
    steps = total_steps(recipe, len(index))
    saves = math.ceil(recipe.epochs / recipe.validate_epochs) + (steps // job.save_steps if job.save_steps else 0)
    return weights + copies * trained, weights, min(job.keep + 1, saves)  # a new one is written before one is deleted


def _check_validation(job: Job, train_index: Index, validation: Index) -> None:
    validation.verify()
    if not len(validation):
        raise UserError(f"{job.validation} holds no videos: leave --val away to train without validation")
    if train_index.classes != validation.classes:
        raise UserError(f"{job.validation} names other classes than {job.data}: index both with the same class list")
    if job.recipe.objective != "maskfeat":
        if train_index.multi_label != validation.multi_label:
            raise UserError(f"{job.validation} and {job.data}: one has several labels a video: index both alike")
        validation.check_labels()
