"""`reelbench train ADDRESS --probe KIND`: train a head on the features of a frozen encoder (see `models._probe`).

The features are those of the test transform's views, without augmentation, and computed once (`features`): by default
one center view of a training video, with `--train-views` more. OUT gets what a training leaves (`job.json`,
`clip.json`, the logs, `best.safetensors`, which holds encoder and head and opens as a checkpoint of the same address),
but no checkpoints: a probe is trained in a minute, and a run that was stopped starts anew with the same features.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ... import address, models
from ...errors import UserError
from ...pipelines.index import Index
from ...spec import Views
from ..events import Report
from ..progress import reporting
from ..training import durable, objective, run_folder
from ..training.job import Job
from ..training.machines import Machines
from . import features
from .check import check
from .fit import Fitted, fit
from .samples import Samples

WEIGHTS = "best.safetensors"


def run(job: Job, machines: Machines = Machines()) -> int:  # noqa: B008 (frozen)
    """Check and train a probe, showing progress, and return 0. Raises UserError as `check` and `train` do."""
    check(job, machines)
    with reporting(address.label(job.model)) as report:
        best = train(job, report)
    result = f"validation {best.metric} {best.value:.1f} %, " if best.metric else ""
    print(
        f"{job.probe} probe on frozen {address.label(job.model)}: {result}{job.out / WEIGHTS} (test it: reelbench eval "
        f"{job.model} --checkpoint {job.out / WEIGHTS} --data INDEX)"
    )
    return 0


def train(job: Job, report: Report) -> Fitted:
    """Train a probe that was checked, write OUT, and return what is in `best.safetensors`.

    That is the best weights, or without validation the last. Raises UserError if OUT is in use or holds a run that the
    job does not overwrite, the weights do not fit, or as `features.of` and `fit`.
    """
    assert job.probe is not None
    with run_folder.claim(job):
        if job.overwrite:
            run_folder.clear(job.out)
        job.write()
        index, device = Index.load(job.data), torch.device(job.device)
        (job.out / run_folder.CLASSES).write_text(json.dumps(index.classes))
        torch.manual_seed(job.seed)
        network = objective.build_network(job, len(index.classes))
        torch.manual_seed(job.seed)  # so that a probe starts alike whatever was drawn before
        model = models.add_probe(network, job.probe, num_classes=len(index.classes), clip=job.clip).to(device).eval()
        found = features.of(model.encoder, index, job, Views.parse(job.train_views), report)
        samples = Samples(found, index, device)
        _tell_skipped(samples, job.out)
        validation = None
        if job.validation is not None:
            held_out = Index.load(job.validation)
            validation = Samples(features.of(model.encoder, held_out, job, Views(), report), held_out, device)
        best = fit(model.probe.train(), samples, validation, job, report)
        model.probe.load_state_dict(best.state)
        _write(model.cpu(), job.out)
    return best


def _tell_skipped(samples: Samples, out: Path) -> None:
    if samples.skipped:
        (out / run_folder.PASSED_OVER).write_text(json.dumps(samples.skipped))


def _write(model: torch.nn.Module, out: Path) -> None:
    try:
        durable.write(out / WEIGHTS, lambda part: models.save(model, part))
    except Exception as error:
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            raise UserError(
                f"{out}: {durable.reason(error, out)}: make room there and run it again: its features are kept"
            ) from None
        raise
