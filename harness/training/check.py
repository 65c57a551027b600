"""Validate a job before any process is started."""

from __future__ import annotations

import importlib.util

import torch

from ... import models
from ...errors import UserError
from ...pipelines.index import Index
from . import checkpoints, ds_config, objective, stream
from . import engine as ds
from .job import Job


def check_job(job: Job, ranks: int) -> None:
    """Validate model, clip, recipe, monitors and data of a job for this number of ranks on all machines.

    Also that there is a checkpoint, if the job resumes; files of weights are not read. Raises UserError on the first
    mistake.
    """
    models.check_clip(job.model, job.clip, job.options)
    with torch.device("meta"):
        models.build(job.model, num_classes=2, **objective.model_options(job))
    ds_config.of_job(job, ds.micro_batch(job.recipe, ranks))
    stream.transform(job.recipe)
    for name in job.monitors:
        if name != "csv" and importlib.util.find_spec(name) is None:
            raise UserError(f"--monitor {name} needs its package: pip install {name}")
    index = Index.load(job.data)
    index.verify()
    if len(index) < job.recipe.batch:
        raise UserError(f"{job.data}: {len(index)} videos do not fill one batch of {job.recipe.batch}: lower --batch")
    if index.multi_label != (job.recipe.objective == "multilabel") and job.recipe.objective != "maskfeat":
        other = "multilabel" if index.multi_label else "classify"
        raise UserError(
            f"{job.data}: its videos have {'several labels' if index.multi_label else 'one label'} each: "
            f"--objective {other}"
        )
    if job.validation is not None:
        _check_validation(job, index, Index.load(job.validation))
    if (job.recipe.objective == "token_label") != (job.annotator is not None):
        raise UserError("token labels need their annotator's weights, and nothing else does: --annotator CHECKPOINT")
    if job.resume:
        checkpoints.newest(job.out / "checkpoints")


def _check_validation(job: Job, train_index: Index, validation: Index) -> None:
    validation.verify()
    if not len(validation):
        raise UserError(f"{job.validation} holds no videos: leave --val away to train without validation")
    if train_index.classes != validation.classes:
        raise UserError(f"{job.validation} names other classes than {job.data}: index both with the same class list")
