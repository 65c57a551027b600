"""Train or load the model of one case and measure its metrics (`run`), in a process of its own (`main`).

Started as `python -m reelbench.harness.suites.case CASE.json OUT [keep-stale]`. Writes JSON lines to standard output,
`{"event": …}` and finally `{"result": …}`; whatever libraries print goes to standard error, the case's log.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ... import address, models, pipelines
from ...errors import UnsupportedError, UserError
from ...metric_table import metric, quantity
from ...pipelines import splits as datasets
from ...pipelines.index import Index
from ...result import Details, MachineState, Metric, Result, Status, TrainingSummary, changes, now
from ...spec import Case, Clip, Recipe, Views
from .. import metrics, probe
from ..events import Event, Report
from ..measuring import environment, machine
from ..measuring.accuracy import Predictions
from ..measuring.phases import PhaseTimer
from ..measuring.timing import disturbed
from ..training import checkpoints, diagnosis, launcher, run_folder, saved_weights, stream
from ..training import weights as trained
from ..training.check import check_job
from ..training.job import Job, find_recipe
from ..training.launch import rank_arguments
from ..training.machines import Machines
from ..training.schedule import total_steps
from . import provenance, resume
from .parent import Parent

if TYPE_CHECKING:
    Weights = models.Contents | saved_weights.Weights


def run(case: Case, out: Path, report: Report, *, keep_stale: bool = False) -> Result:
    """Train or load the case's model and measure its metrics; failures are returned as the result's status.

    The results folder `out` gets the training run, from which a later call resumes, and the predictions; the result is
    only returned. A training by other code is resumed only with `keep_stale`, otherwise made again.
    """
    code = provenance.collect(case)
    started, begin, timer = now(), time.perf_counter(), PhaseTimer()
    status: Status = "ok"
    error, found, details = "", {}, Details()
    try:
        found, details = _measure(case, out, report, timer, keep_stale)
    except torch.cuda.OutOfMemoryError as raised:
        status, error = "oom", _one_line(raised)
    except UnsupportedError as raised:
        status, error = "unsupported", str(raised)
    except UserError as raised:
        status, error = "failed", str(raised)
    except Exception as raised:  # fails this case, not the suite; the log has the traceback
        traceback.print_exc()
        status, error = "failed", f"{type(raised).__name__}: {_one_line(raised)}"
    seconds, around = time.perf_counter() - begin, environment.collect()
    details["time_breakdown"] = timer.read()
    training = provenance.read(training_folder(case, out)) if case.recipe is not None else {}
    return Result(
        case=case, status=status, started=started, seconds=seconds, environment=around, metrics=found,
        details=details, published=_published(case.model), error=error, provenance={**code, **training},
    )  # fmt: skip


def _measure(
    case: Case, out: Path, report: Report, timer: PhaseTimer, keep_stale: bool
) -> tuple[dict[str, Metric], Details]:
    with timer.phase("start"):
        data = datasets.resolve(case.data, case.device)
        index = Index.load(data.test)
        index.verify()
        if any(metric(name).needs_weights for name in case.metrics):
            index.check_labels()
    details: Details = {"test_videos": len(index), "rejected_videos": len(index.skipped)}
    log: list[dict[str, float]] = []
    weights: Weights | None = None
    if case.checkpoint is not None:
        weights = _read(case, find_checkpoint(case.checkpoint), index)
    if case.recipe is not None or (case.probe is not None and weights is None):
        with timer.phase("training"):
            weights, log = (
                _train(case, data, out, report, keep_stale)
                if case.probe is None
                else _train_probe(case, data, out, report)
            )
        details["train"] = _training_summary(log)
        details["passed_over"] = run_folder.read_passed_over(training_folder(case, out))
    with timer.phase("start"):
        subject = make_subject(case, index, weights, log)
    subject.timer, subject.report = timer, report
    subject.keep = lambda predictions: _keep(predictions, index, out / "predictions" / f"{case.case_id}.parquet")
    details["views"] = str(subject.views)
    found, state = measured(subject)
    if log and subject.notes.get("learned") is False:
        details["advice"] = diagnosis.advice(log)
    return found, {**details, **subject.notes, "machine": state}


def _read(case: Case, checkpoint: Path, index: Index) -> Weights | None:
    """Return a checkpoint's weights; None if they are an encoder's, for the case's probe to be trained on.

    Raises UserError if they are a probe's and the case does not say so, or of other classes than the videos.
    """
    contents = trained.read(checkpoint)
    kind = models.probe_kind(contents)
    if kind is None and case.probe is not None:
        return None
    if kind != case.probe:
        raise UserError(f"{checkpoint} holds a probe: write probe='{kind}' in the case, so that reports call it frozen")
    saved_weights.check_classes(checkpoint, index.classes, case.data)
    return contents


def measured(subject: metrics.Subject) -> tuple[dict[str, Metric], MachineState]:
    """Measure the metrics of a subject's case, and watch the machine: what it disturbed is flagged."""
    with machine.watch(subject.device) as state:
        found = metrics.measure(subject)
    return _doubted(found, state), state


def _doubted(found: Mapping[str, Metric], state: MachineState) -> dict[str, Metric]:
    """Return the metrics, times and rates flagged if the machine was disturbed meanwhile."""
    if not (disturbances := state.get("disturbed")):
        return dict(found)
    reasons = f"disturbed: {', '.join(disturbances)}; measure again when the machine is quiet"
    return {
        name: disturbed(number, reasons) if quantity(name, number.unit).timed else number
        for name, number in found.items()
    }


def _keep(predictions: Predictions, index: Index, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    predictions.save(path, [str(video.path) for video in index.videos()])


def find_checkpoint(pattern: str) -> Path:
    """Expand `~`, `$VARIABLES` and wildcards in a checkpoint's path and return the one file that matches.

    A path without wildcards is returned whether it exists or not. Raises UnsupportedError if a variable is not set or
    nothing matches, UserError if several files match.
    """
    path = os.path.expandvars(os.path.expanduser(pattern))
    if "$" in path:
        name = path[path.index("$") :].partition("/")[0]
        raise UnsupportedError(f"no checkpoint: set {name[1:]} to the folder that holds {Path(path).name}")
    if not any(sign in path for sign in "*?["):
        return Path(path)
    found = sorted(glob.glob(path))
    if not found:
        raise UnsupportedError(f"no checkpoint: nothing matches {path}")
    if len(found) > 1:
        raise UserError(f"{path} matches {len(found)} checkpoints: {', '.join(Path(f).name for f in found[:5])}")
    return Path(found[0])


def make_subject(case: Case, index: Index, weights: Weights | None, log: list[dict[str, float]]) -> metrics.Subject:
    """Build the case's model with its weights and return the subject of its metrics; `log` is its training log.

    Without `weights` they are random, or those the model comes with; unless accuracy is asked for, the number of
    classes is then the model's own, not the index's.
    """
    variant = models.find(case.model)
    labeled = any(metric(name).needs_weights for name in case.metrics)
    if labeled and weights is None:
        trained.check_own(case.model, index.classes, case.data, case.options)
    labeled = labeled or weights is not None
    num_classes = len(index.classes) if labeled else variant.num_classes
    clip, views = models.choose_clip(case.model, case.recipe, case.clip), case.views or variant.views
    model = models.build(case.model, num_classes=num_classes, checkpoint=weights, clip=clip, **case.options)
    return subject_of(
        model.to(case.device).eval(), case, index, clip=clip, num_classes=num_classes, views=views, log=log
    )


def subject_of(
    model: nn.Module, case: Case, index: Index | None, *, clip: Clip, views: Views, num_classes: int,
    log: list[dict[str, float]],
) -> metrics.Subject:  # fmt: skip
    """Return a model, in eval mode on the case's device, as the subject of the case's metrics.

    `index` are the videos that it is shown; none are needed unless the case shows videos.
    """

    def open_stream(batch: int, views: Views = views) -> pipelines.Stream:
        assert index is not None
        return pipelines.open(
            index, clip=clip, views=views, batch=batch, device=case.device, workers=case.workers,
            decoder=case.decoder,
        )  # fmt: skip

    def open_training(batch: int) -> pipelines.Stream:
        assert index is not None
        return stream.open_stream(
            index, case.recipe or Recipe(), clip, batch=batch, device=case.device, workers=case.workers,
            sampler=pipelines.SamplerState(seed=case.seed), decoder=case.decoder,
        )  # fmt: skip

    return metrics.Subject(
        model=model, case=case, clip=clip, views=views, device=torch.device(case.device), num_classes=num_classes,
        videos=len(index or ()), groups=index.groups if index else (), open_stream=open_stream,
        open_training=open_training, train_log=log,
    )  # fmt: skip


def _train(
    case: Case, data: datasets.Data, out: Path, report: Report, keep_stale: bool
) -> tuple[Path, list[dict[str, float]]]:
    """Train through the DeepSpeed launcher; return the best weights and one log record per step."""
    folder = training_folder(case, out)
    resumed = _resumes(case, folder, report, keep_stale)
    job = replace(_job(case, data, folder), resume=resumed, overwrite=not resumed)
    check_job(job, case.ranks)
    total = total_steps(job.recipe, len(Index.load(job.data)))
    line = launcher.command(rank_arguments(job), ranks=case.ranks, device=case.device)
    if not resumed:
        provenance.write(folder, provenance.of_training(case))
    process = subprocess.Popen(line, stdout=sys.stderr, env=launcher.environment(case.device))
    while process.poll() is None:
        report(Event(phase="train", done=run_folder.steps_done(folder), total=total))
        time.sleep(0.5)
    if process.returncode:
        raise UserError(f"training ended with exit code {process.returncode}: see the log")
    return folder / "best.safetensors", run_folder.read_log(folder)


def _resumes(case: Case, folder: Path, report: Report, keep_stale: bool) -> bool:
    """Return whether the folder has a training to go on with or to use: one by today's code, unless `keep_stale`."""
    if not checkpoints.complete(folder / run_folder.CHECKPOINTS):
        return False
    changed = [] if keep_stale else changes(provenance.read(folder), provenance.of_training(case))
    if changed:
        note = f"{case.label}: trained again, since these changed: {resume.named(changed)}"
        report(Event(phase="train", note=note))
    return not changed


def _train_probe(case: Case, data: datasets.Data, out: Path, report: Report) -> tuple[Path, list[dict[str, float]]]:
    """Train a probe in this process; return its weights, and one log record per step."""
    folder = training_folder(case, out)
    encoder = None if case.checkpoint is None else find_checkpoint(case.checkpoint)
    job = replace(_job(case, data, folder), probe=case.probe, init_from=encoder, overwrite=True)
    probe.check(job, Machines(ranks=case.ranks))
    probe.train(job, report)
    return folder / probe.WEIGHTS, run_folder.read_log(folder)


def _job(case: Case, data: datasets.Data, folder: Path) -> Job:
    if data.train is None:
        raise UserError(f"{case.label}: {case.data} has no training split: give a folder with train.parquet")
    recipe = case.recipe or find_recipe(case.model, None, probe=True)
    return Job(
        model=case.model, data=data.train, validation=data.val, recipe=recipe, out=folder, device=case.device,
        clip=models.choose_clip(case.model, recipe, case.clip), options=case.options, workers=case.workers,
        decoder=case.decoder, seed=case.seed,
    )  # fmt: skip


def training_folder(case: Case, out: Path) -> Path:
    """Return the folder of a case's training run in the results folder `out`; it need not exist."""
    return out / "train" / case.case_id


def _training_summary(log: list[dict[str, float]]) -> TrainingSummary:
    seconds = sum(row["wait"] + row["compute"] for row in log)
    return {"steps": len(log), "seconds": seconds, "first_loss": log[0]["loss"], "last_loss": log[-1]["loss"]}


def _published(model: str) -> tuple[Any, ...]:
    """Return the published figures of this model; for a micro, which has none, those of its full-size siblings."""
    own = models.find(model).published
    alone = own or model not in models.names()
    names = [model] if alone else [name for name in models.names() if address.family(name) == address.family(model)]
    rows = (row for name in names for row in models.find(name).published)
    return tuple(row for row in rows if (row.top1, row.gflops, row.params_m) != (None, None, None))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]


def main() -> None:
    """Run the case of the file in argv[1], with the results folder in argv[2], and end the process."""
    parent = Parent()
    environment.fix_threads()
    parent.report(Event(phase="starting"))  # from here on the case's own timer runs
    case = Case.from_json(json.loads(Path(sys.argv[1]).read_text()))
    result = run(case, Path(sys.argv[2]), parent.report, keep_stale="keep-stale" in sys.argv[3:])
    parent.send(result=result.to_json())
    os._exit(0)  # do not wait for decoder and launcher threads; the result has been sent


if __name__ == "__main__":
    main()
