"""The training loop, one process a rank: `deepspeed --num_gpus 2 --module reelbench.harness.train MODEL --data …`.

Leaves in OUT: `train.jsonl` (one line an optimiser step), `validation.jsonl`, `checkpoints/` to resume from, and the
weights alone in `last.safetensors` and `best.safetensors`.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import models, pipelines
from ..pipelines.index import Index
from . import engine as ds
from .errors import UserError
from .evaluate import Predictions, evaluate, scores
from .job import Job
from .measure import synchronize
from .metrics import autocast
from .progress import TrainingProgress
from .schedule import factor, total_steps
from .spec import Clip, Views


@dataclass
class Position:
    """Where training stands: optimiser steps taken, and the best top-1 so far (percent, -1 before any)."""

    step: int = 0
    best: float = -1.0


def check(job: Job, ranks: int) -> None:
    """Find what is wrong with a job before any process is started; each mistake is a `UserError`."""
    check_clip(job.model, job.clip)
    ds.micro_batch(job.recipe, ranks)
    index = Index.load(job.data)
    index.verify()
    if len(index) < job.recipe.batch:
        raise UserError(f"{job.data}: {len(index)} videos do not fill one batch of {job.recipe.batch}: lower --batch")
    if job.validation is not None:
        _same_classes(job, index, Index.load(job.validation))
    if job.resume and not (job.out / "checkpoints" / "latest").exists():
        raise UserError(f"nothing to resume in {job.out}: leave --resume away to start afresh")


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


def train(job: Job) -> None:
    """Train to the end of the recipe, validating and saving on the way."""
    world = ds.connect(job.device)
    torch.manual_seed(job.seed)
    index = Index.load(job.data)
    model = _model(job, len(index.classes)).to(world.device)
    engine = ds.Engine(model, job.recipe, world, job.deepspeed)
    position = _resume(job, engine)
    steps_per_epoch = len(index) // job.recipe.batch
    total = total_steps(job.recipe, len(index))
    interval = max(1, round(job.recipe.validate_epochs * steps_per_epoch))
    log = _Log(job.out, position.step) if world.leads else None
    with (
        _training_stream(job, index, world, position.step, steps_per_epoch) as stream,
        TrainingProgress(job.model, total, position.step, shown=world.leads) as progress,
    ):
        batches = _Batches(stream, steps_per_epoch, position.step, job.recipe.accumulate)
        for step in range(position.step, total):
            lr = job.recipe.lr * factor(job.recipe, step, steps_per_epoch)
            record = _step(engine, batches, lr, job.recipe.accumulate)
            position.step = step + 1
            if log is not None:
                log.write("train", {"step": step, "epoch": step / steps_per_epoch, "lr": lr, **record})
            progress.advance(record, job.recipe.batch)
            if position.step % interval == 0 or position.step == total:
                _validate_and_save(job, engine, position, log, progress, final=position.step == total)
    ds.disconnect()


def _model(job: Job, num_classes: int) -> torch.nn.Module:
    model = models.build(job.model, num_classes=num_classes)
    if job.init_from is not None:
        left = models.init_from(model, job.init_from)
        if left:
            print(f"not loaded from {job.init_from}: {', '.join(left)}", file=sys.stderr)
    return model


def _resume(job: Job, engine: ds.Engine) -> Position:
    if not job.resume:
        return Position()
    state = engine.resume(job.out / "checkpoints")
    return Position(step=int(state["step"]), best=float(state["best"]))


def _training_stream(job: Job, index: Index, world: ds.World, step: int, steps_per_epoch: int) -> pipelines.Stream:
    recipe = job.recipe
    return pipelines.open(
        index, clip=job.clip, training=True, batch=ds.micro_batch(recipe, world.size),
        crop=recipe.crop, crop_area=recipe.crop_area, flip=recipe.flip, seed=job.seed, rank=world.rank,
        world=world.size, device=job.device, workers=job.workers, first_epoch=step // steps_per_epoch,
        first_batch=step % steps_per_epoch * recipe.accumulate,
    )  # fmt: skip


class _Batches:
    """(clip, label) of epoch after epoch, from an optimiser step on; `waited` adds up the seconds until each came.

    Micro-batches that fill no step of an epoch are dropped.
    """

    def __init__(self, stream: pipelines.Stream, steps_per_epoch: int, step: int, accumulate: int) -> None:
        self.waited = 0.0
        self._batches = self._endless(stream, steps_per_epoch, step, accumulate)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        begin = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - begin
        return batch

    @staticmethod
    def _endless(
        stream: pipelines.Stream, steps_per_epoch: int, step: int, accumulate: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            wanted = (steps_per_epoch - step % steps_per_epoch) * accumulate
            for number, batch in enumerate(stream.epoch()):
                if number < wanted:
                    yield batch.clip, batch.label
            step = 0


def _step(engine: ds.Engine, batches: _Batches, lr: float, accumulate: int) -> dict[str, float]:
    """Take one step; return its loss, and the seconds of waiting for data and of computing, kept apart."""
    begin, waited = time.perf_counter(), batches.waited
    engine.engine.train()
    measured = engine.train_step(itertools.islice(batches, accumulate), lr)
    synchronize(engine.world.device)
    wait = batches.waited - waited
    return {**measured, "wait": wait, "compute": time.perf_counter() - begin - wait}


def _validate_and_save(
    job: Job, engine: ds.Engine, position: Position, log: _Log | None, progress: TrainingProgress, *, final: bool
) -> None:
    top1 = _validate(job, engine, position, progress)
    if log is not None and top1 is not None:
        log.write("validation", {"step": position.step, "top1": top1})
    if top1 is None or top1 > position.best:
        position.best = top1 if top1 is not None else position.best
        engine.export(job.out / "best.safetensors")
    engine.save(job.out / "checkpoints", position.step, {"step": position.step, "best": position.best})
    if final:
        engine.export(job.out / "last.safetensors")


def _validate(job: Job, engine: ds.Engine, position: Position, progress: TrainingProgress) -> float | None:
    """Return the top-1 of the validation videos in percent, one centre view each; None without a validation index."""
    if job.validation is None:
        return None
    world, index = engine.world, Index.load(job.validation)
    engine.module.eval()

    def forward(clip: Tensor) -> Tensor:
        with autocast(world.device, job.recipe.precision):
            return engine.module(clip)

    with pipelines.open(
        index, clip=job.clip, views=Views(), batch=32, rank=world.rank, world=world.size,
        device=job.device, workers=job.workers,
    ) as stream:  # fmt: skip
        mine = evaluate(forward, stream)
    everything = Predictions.join([p for p in ds.gather(mine) if len(p.video)])
    top1 = scores(everything, len(index.classes), "1x1")["top1"].value
    progress.note(f"step {position.step}: validation top-1 {top1:.1f} %")
    return top1


def _same_classes(job: Job, train_index: Index, validation: Index) -> None:
    if train_index.classes != validation.classes:
        raise UserError(f"{job.validation} names other classes than {job.data}: index both with the same class list")


class _Log:
    """The JSON-lines files of a run; a resumed run cuts off what it will do again."""

    def __init__(self, out: Path, step: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        for name, last in (("train", step - 1), ("validation", step)):
            kept = [row for row in read_log(out, name) if row["step"] <= last] if step else []
            self._path(name).write_text("".join(json.dumps(row) + "\n" for row in kept))

    def write(self, name: str, row: dict[str, float]) -> None:
        with self._path(name).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _path(self, name: str) -> Path:
        return self.out / f"{name}.jsonl"


def read_log(out: Path, name: str = "train") -> list[dict[str, float]]:
    """Return the rows of a run's `train` or `validation` log; a torn last line is left out."""
    path = out / f"{name}.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def main() -> None:
    """Parse the options that the launcher hands to every rank, and train."""
    from . import job
    from .cli import run_command

    run_command(job.train)


if __name__ == "__main__":
    main()
