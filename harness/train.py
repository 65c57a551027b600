"""The training loop, one process a rank: `deepspeed --num_gpus 2 --module reelbench.harness.train MODEL --data …`.

Leaves in OUT: `train.jsonl` (one line an optimiser step), `validation.jsonl`, `checkpoints/` to resume from, and the
weights alone in `last.safetensors` and `best.safetensors`. SIGTERM and SIGUSR1 save a checkpoint and end with 0.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import models, pipelines
from ..pipelines.index import Index
from . import checkpoints, ds_config, losses, nonfinite, recipe_stream
from . import engine as ds
from .batches import Batches
from .ema import Ema
from .errors import UserError
from .evaluate import Predictions, evaluate, scores
from .execution import training
from .interruption import Interruption
from .job import Job
from .measure import synchronize
from .progress import TrainingProgress
from .schedule import factor, total_steps, weight_decay
from .spec import Clip, Views

TAIL = 4096  # bytes: several lines of a log
PASSED_OVER = "passed_over.json"
CLASSES = "classes.json"  # their names, for whoever asks a model of this run


@dataclass
class Position:
    """Where training stands: optimiser steps taken, the best validation so far (percent, -1 before any), steps held."""

    step: int = 0
    best: float = -1.0
    held: int = 0


def check(job: Job, ranks: int) -> None:
    """Find what is wrong with a job before any process is started; each mistake is a `UserError`."""
    check_clip(job.model, job.clip)
    with torch.device("meta"):
        models.build(job.model, num_classes=2, **_options(job))
    settings(job, ds.micro_batch(job.recipe, ranks))
    recipe_stream.augment(job.recipe)
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


def check_clip(model: str, clip: Clip) -> None:
    """Send a clip without contents through the model; one that it cannot take is a `UserError`."""
    variant = models.find(model)
    try:
        with torch.device("meta"), torch.inference_mode():
            variant.build(num_classes=2, **variant.options).eval()(torch.empty(1, 3, clip.frames, clip.size, clip.size))
    except (RuntimeError, ValueError, AssertionError, UserError) as error:
        own = variant.clip
        raise UserError(
            f"{model} cannot take {clip.frames} frames of {clip.size}x{clip.size} (its own: {own.frames} of "
            f"{own.size}x{own.size}): {' '.join(str(error).split())[:160]}"
        ) from None


def settings(job: Job, micro_batch: int, *, universal: bool = False) -> dict[str, Any]:
    """Return DeepSpeed's configuration of a job."""
    return ds_config.settings(
        job.recipe, micro_batch=micro_batch, config=job.deepspeed, offload=job.offload, monitors=job.monitors,
        folder=job.out / "monitor", universal=universal,
    )  # fmt: skip


def train(job: Job) -> None:
    """Train to the end of the recipe, validating and saving on the way."""
    interruption = Interruption()
    if job.deterministic:
        make_deterministic()
    world = ds.connect(job.device)
    run = Run(job, world)
    with ExitStack() as stack:
        stream = stack.enter_context(run.open_stream())
        progress = stack.enter_context(TrainingProgress(job.model, run.total, run.position.step, shown=world.leads))
        batches = Batches(stream, run.steps_per_epoch, run.position.step, job.recipe.accumulate)
        while run.position.step < run.total:
            stopped = run.step(batches, progress, asked=interruption.asked)
            if stopped or (job.save_steps and run.position.step % job.save_steps == 0):
                run.save()
            if run.due():
                run.validate_and_save(progress)
            if stopped:
                progress.note(f"stopped by a signal after step {run.position.step}: go on with --resume")
                break
        run.tell_passed_over(stream)
    ds.disconnect()


def make_deterministic() -> None:
    """Choose deterministic kernels; torch names in a warning each operation that has none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


class Run:
    """A training run: the engine, where it stands, and what is done between two steps."""

    def __init__(self, job: Job, world: ds.World) -> None:
        self.job, self.world, self.recipe = job, world, job.recipe
        self.index = Index.load(job.data)
        self.steps_per_epoch = len(self.index) // job.recipe.batch
        self.total = total_steps(job.recipe, len(self.index))
        self.interval = max(1, round(job.recipe.validate_epochs * self.steps_per_epoch))
        torch.manual_seed(job.seed)
        objective = build_objective(job, len(self.index.classes), world.device)
        folder = job.out / "checkpoints"
        universal = job.resume and ds.convert_for(folder, world)
        if "wandb" in job.monitors:
            ds_config.keep_wandb_in(job.out / "monitor")
        made = settings(job, ds.micro_batch(job.recipe, world.size), universal=universal)
        self.engine = ds.Engine(objective, job.recipe, world, made, fused=not job.offload)
        self.ema = Ema(self.engine.network, job.recipe.ema) if job.recipe.ema else None
        self.position = Position()
        if job.resume:
            state = self.engine.resume(folder, universal=universal, ema=self.ema)
            self.position = Position(**{name: state[name] for name in asdict(self.position)})
            self._tell_about_ranks(state["ranks"])
        if world.leads:
            job.write()
            (job.out / CLASSES).write_text(json.dumps(self.index.classes))
        self.log = Log(job.out, self.position.step) if world.leads else None

    def _tell_about_ranks(self, ranks: int) -> None:
        if ranks != self.world.size and self.world.leads:
            print(
                f"resumed {ranks} ranks' checkpoint on {self.world.size}: global batches hold the same videos and "
                "clips as before; what depends on a rank's share differs (dropout, batch norm, mixup partners)",
                file=sys.stderr,
            )

    def open_stream(self) -> pipelines.Stream:
        """Open the training videos at the present step."""
        job, recipe, step = self.job, self.recipe, self.position.step
        return recipe_stream.open_stream(
            self.index, recipe, job.clip, batch=ds.micro_batch(recipe, self.world.size), device=job.device,
            workers=job.workers, seed=job.seed, rank=self.world.rank, world=self.world.size,
            first_epoch=step // self.steps_per_epoch, first_batch=step % self.steps_per_epoch * recipe.accumulate,
        )  # fmt: skip

    def tell_passed_over(self, stream: pipelines.Stream) -> None:
        """Name the videos that others stood in for, on any rank and in the runs that this one goes on from."""
        found = {pair for part in ds.gather(stream.broken) for pair in part}
        if not self.world.leads or not found:
            return
        earlier = {(path, reason) for path, reason in read_passed_over(self.job.out)} if self.job.resume else set()
        (self.job.out / PASSED_OVER).write_text(json.dumps(sorted(found | earlier)))
        for path, reason in sorted(found):
            print(f"passed over: {path}: {reason}", file=sys.stderr)

    def due(self) -> bool:
        """Whether to validate after the step just taken."""
        return self.position.step % self.interval == 0 or self.position.step == self.total

    def step(self, batches: Batches, progress: TrainingProgress, *, asked: bool) -> bool:
        """Take one step and log it; return whether any rank was asked to stop."""
        step, begin, waited = self.position.step, time.perf_counter(), batches.waited
        torch.manual_seed((self.job.seed * 1_000_003 + step) * 65_536 + self.world.rank)  # a resumed run draws the same
        lr = self.recipe.lr * factor(self.recipe, step, self.steps_per_epoch)
        found = self.engine.train_step(
            self._arguments(batches, step), lr=lr, asked=asked,
            weight_decay=weight_decay(self.recipe, step, self.steps_per_epoch),
        )  # fmt: skip
        if found.held:
            self._hold(found, batches, lr)
        elif self.ema is not None:
            self.ema.update()
        synchronize(self.world.device)
        wait = batches.waited - waited
        self.position.step = step + 1
        record = {"loss": found.loss, "wait": wait, "compute": time.perf_counter() - begin - wait}
        if found.grad_norm is not None:
            record["grad_norm"] = found.grad_norm
        self._write(step, lr, record)
        progress.advance(record, self.recipe.batch)
        return found.asked

    def _arguments(self, batches: Batches, step: int) -> Iterator[tuple[Any, ...]]:
        batches.seen.clear()
        for batch in itertools.islice(batches, self.recipe.accumulate):
            yield batch.clip, batch.label, losses.Draw(self.job.seed, step, tuple(batch.video.tolist()))

    def _write(self, step: int, lr: float, record: dict[str, float]) -> None:
        if self.log is None:
            return
        speed = self.recipe.batch / (record["wait"] + record["compute"])
        more = {"clips_s": speed, "memory_mib": memory_mib(self.world.device)}
        self.log.write("train", {"step": step, "epoch": step / self.steps_per_epoch, "lr": lr, **record, **more})
        self.engine.record({"lr": lr, **record, **more}, step)

    def _hold(self, found: ds.Step, batches: Batches, lr: float) -> None:
        """A loss was not finite: go on where --skip-nan allows it, else stop with what is needed to see why."""
        self.position.held += 1
        files = ds.gather(nonfinite.culprits(found.losses, batches.seen, self.index))
        place = f"step {self.position.step}, learning rate {lr:.4g}: loss not finite; {nonfinite.name(files)}"
        if self.position.held <= self.job.skip_nan:
            if self.world.leads:
                print(f"{place}: left out ({self.position.held} of {self.job.skip_nan})", file=sys.stderr)
            return
        folder = self.job.out / f"nonfinite_step_{self.position.step}"
        self.engine.export(folder / "weights.safetensors")
        nonfinite.dump(folder / f"rank_{self.world.rank}.pt", found.losses, batches.seen, self.index, lr)
        ds.disconnect()
        if not self.world.leads:
            raise SystemExit(2)
        raise UserError(f"{place}. Weights and batch are in {folder}; lower --lr, or allow some by --skip-nan")

    def save(self) -> None:
        """Write a checkpoint."""
        self.engine.average_buffers()
        self.engine.save(
            self.job.out / "checkpoints", self.position.step, asdict(self.position), keep=self.job.keep, ema=self.ema
        )

    def validate_and_save(self, progress: TrainingProgress) -> None:
        """Validate, export the weights where they are the best or the last, and write a checkpoint."""
        self.engine.average_buffers()
        with self.ema.applied() if self.ema is not None else ExitStack():
            self._validate_and_export(progress)
        self.save()

    def _validate_and_export(self, progress: TrainingProgress) -> None:
        found = self._validate()
        aside = ("cls_head.token_linear.",) if self.recipe.objective == "token_label" else ()
        if found is not None:
            name, value = found
            progress.note(f"step {self.position.step}: validation {name} {value:.1f} %")
            if self.log is not None:
                self.log.write("validation", {"step": self.position.step, name: value})
            self.engine.record({name: value}, self.position.step)
        if found is None or found[1] > self.position.best:
            self.position.best = self.position.best if found is None else found[1]
            self.engine.export(self.job.out / "best.safetensors", without=aside)
        if self.position.step == self.total:
            self.engine.export(self.job.out / "last.safetensors", without=aside)

    def _validate(self) -> tuple[str, float] | None:
        """Return the validation videos' metric by name, in percent, one centre view each; None where there are none."""
        job, world, network = self.job, self.world, self.engine.network
        if job.validation is None or self.recipe.objective == "maskfeat":
            return None
        index, forwards = Index.load(job.validation), 0
        self.engine.engine.eval()

        def forward(clip: Tensor) -> Tensor:
            nonlocal forwards
            forwards += 1
            with training(world.device, self.recipe.precision):
                return network(clip)

        with pipelines.open(
            index, clip=job.clip, views=Views(), batch=32, rank=world.rank, world=world.size,
            device=job.device, workers=job.workers,
        ) as stream:  # fmt: skip
            mine = evaluate(forward, stream)
        if self.recipe.zero == 3:  # every forward pass gathers weights from all ranks: do as many as the busiest
            clip = torch.zeros(1, 3, job.clip.frames, job.clip.size, job.clip.size, device=world.device)
            with torch.inference_mode():
                for _ in range(max(ds.gather(forwards)) - forwards):
                    forward(clip)
        everything = Predictions.join(ds.gather(mine))
        return everything.main, scores(everything, len(index.classes), "1x1")[everything.main].value


def build_objective(job: Job, num_classes: int, device: torch.device) -> losses.Objective:
    """Build the model as the recipe asks, with the weights it starts from, inside its objective."""
    recipe, variant = job.recipe, models.find(job.model)
    network = models.build(job.model, num_classes=num_classes, pretrained=job.pretrained, **_options(job))
    if job.init_from is not None:
        left = models.init_from(network, job.init_from)
        if left:
            print(f"not loaded from {job.init_from}: {', '.join(left)}", file=sys.stderr)
    annotator = None
    if recipe.annotator is not None:
        annotator = models.build(recipe.annotator, num_classes=num_classes, checkpoint=job.annotator).to(device)
    head = (variant.head,) if isinstance(variant.head, str) else variant.head
    return losses.objective(network, recipe, num_classes=num_classes, clip=job.clip, head=head, annotator=annotator).to(
        device
    )


def _options(job: Job) -> dict[str, Any]:
    """Return what the job asks of the model's constructor, beyond its own."""
    asked = {
        "drop_path": job.recipe.drop_path,
        "token_labels": True if job.recipe.objective == "token_label" else None,
        "checkpoint_activations": job.checkpoint_activations or None,
    }
    return {name: value for name, value in asked.items() if value is not None}


def memory_mib(device: torch.device) -> float:
    """Return the most GPU memory allocated so far, or on a CPU the memory that this process occupies, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def _check_validation(job: Job, train_index: Index, validation: Index) -> None:
    validation.verify()
    if not len(validation):
        raise UserError(f"{job.validation} holds no videos: leave --val away to train without validation")
    if train_index.classes != validation.classes:
        raise UserError(f"{job.validation} names other classes than {job.data}: index both with the same class list")


class Log:
    """The JSON-lines files of a run; a resumed run cuts off what it will do again."""

    def __init__(self, out: Path, step: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        for name, last in (("train", step - 1), ("validation", step)):
            kept = [row for row in read_log(out, name) if row["step"] <= last] if step else []
            self._path(name).write_text("".join(json.dumps(row) + "\n" for row in kept))

    def write(self, name: str, row: dict[str, float]) -> None:
        """Append a row."""
        with self._path(name).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _path(self, name: str) -> Path:
        return self.out / f"{name}.jsonl"


def read_log(out: Path, name: str = "train") -> list[dict[str, float]]:
    """Return the rows of a run's `train` or `validation` log; a torn last line is left out."""
    path = out / f"{name}.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def read_passed_over(out: Path) -> list[tuple[str, str]]:
    """Return the (path, reason) of every video that a run passed over."""
    path = out / PASSED_OVER
    return [(video, reason) for video, reason in json.loads(path.read_text())] if path.exists() else []


def steps_done(out: Path) -> int:
    """Return how many steps a run's log holds, from its last whole line alone, however long the log."""
    path = out / "train.jsonl"
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        whole = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
    return json.loads(whole[-1])["step"] + 1 if whole else 0


def main() -> None:
    """Parse the options that the launcher hands to every rank, and train."""
    from . import job
    from .cli import run_command

    run_command(job.train)


if __name__ == "__main__":
    main()
