"""Validate a probe's job before anything is computed."""

from __future__ import annotations

import dataclasses
import os
import sys

from ... import address, models
from ...errors import UserError
from ...pipelines.index import Index
from ...spec import Recipe
from ..training import run_folder
from ..training.check import check_data
from ..training.job import Job
from ..training.machines import Machines

# Fields of a recipe that act on a network in training, or on its clips: a probe has features instead.
MEANINGLESS = (
    "accumulate", "lr_rules", "decay_rules", "ema", "zero", "crop", "crop_area", "short_sides", "flip", "flip_swaps",
    "flip_keeps", "rand_augment", "color_jitter", "erase", "mixup", "cutmix", "drop_path", "annotator", "linear_probe",
)  # fmt: skip
# The same of a job.
UNUSED = (
    "annotator", "deepspeed", "offload", "monitors", "checkpoint_activations", "resume", "save_steps",
    "max_skipped_steps",
)  # fmt: skip


def check(job: Job, machines: Machines) -> Index:
    """Check a probe's job and return the index of its training videos. Features are looked for, not computed.

    Raises UserError on the first mistake; prints to standard error if the encoder's weights are random.
    """
    assert job.probe is not None
    _check_options(job)
    if machines.ranks > 1 or machines.hostfile is not None or "RANK" in os.environ:
        raise UserError("a probe is trained in one process: leave --gpus, --hostfile and other launchers out")
    models.check_clip(job.model, job.clip, job.options)
    models.check_probe(job.model, job.probe, job.clip, job.options)
    index = check_data(job)
    run_folder.check_writable(job.out)
    own = models.find(job.model).weights or job.options.get("weights")
    if not own and job.init_from is None and job.pretrained is None:
        print(
            f"{address.label(job.model)} has random weights: a probe on them shows what the architecture alone gives "
            "(--init-from CHECKPOINT for trained ones)",
            file=sys.stderr,
        )
    return index


def _check_options(job: Job) -> None:
    """Refuse what would have no effect: a number that looks set but is not used would mislead."""
    usual = {field.name: field for field in (*dataclasses.fields(Job), *dataclasses.fields(Recipe))}
    for owner, names in ((job.recipe, MEANINGLESS), (job, UNUSED)):
        for name in names:
            if getattr(owner, name) != usual[name].default:
                flag = usual[name].metadata.get("flag") or "--" + name.replace("_", "-")
                raise UserError(
                    f"{flag} has no meaning with --probe, which trains a head on features of test views: leave it out"
                    + (", and --recipe if it sets it" if owner is job.recipe else "")
                )
    if job.recipe.objective not in ("classify", "multilabel"):
        raise UserError(f"--objective {job.recipe.objective}: a probe's is classify or multilabel")
