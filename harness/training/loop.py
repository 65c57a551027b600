"""The training loop, one process a rank: `deepspeed --num_gpus 2 --module reelbench.harness.training MODEL --data …`.

Leaves in OUT: `train.jsonl` (one line an optimizer step), `validation.jsonl`, `checkpoints/` to resume from, and the
weights alone (the EMA's if there is one): `best.safetensors`, without validation the newest, and, once training is
complete, `last.safetensors`. SIGTERM and SIGUSR1 save a checkpoint and end with 0.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ... import pipelines
from ...errors import UserError
from ...pipelines.index import Index
from ...spec import Views
from ..measuring.accuracy import Predictions, evaluate, scores
from ..measuring.execution import training
from ..measuring.timing import synchronize
from ..progress import TrainingProgress
from . import ds_config, losses, nonfinite, objective, run_folder, stream
from . import engine as ds
from .batches import Batches
from .ema import Ema
from .job import Job
from .schedule import factor, total_steps, weight_decay
from .signals import StopSignal

VALIDATED = 32  # largest validation batch, in videos
DECODED = 1 << 30  # bytes of a validation batch's uncropped RGB frames; the decoder prefetches two more batches


@dataclass
class Position:
    """Training progress: optimizer steps, those of them skipped, best validation metric (percent, -1 before any)."""

    step: int = 0
    best_metric: float = -1.0
    skipped: int = 0

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Position:
        """Return the position in a checkpoint's state, whose keys earlier versions named `best` and `held`."""
        best, skipped = state.get("best_metric", state.get("best", -1.0)), state.get("skipped", state.get("held", 0))
        return cls(step=state["step"], best_metric=best, skipped=skipped)


def train(job: Job) -> None:
    """Train as one rank to the end of the recipe, or to a SIGTERM or SIGUSR1, validating and saving on the way.

    Call it in the main thread of every rank. Raises UserError if loss or gradient are not finite more often than the
    job allows (SystemExit on other ranks than 0).
    """
    stop_signal = StopSignal()
    if job.deterministic:
        make_deterministic()
    world = ds.connect(job.device)
    run = Run(job, world)
    if world.is_main:
        print(f"peak learning rate {job.recipe.lr:.4g} for batches of {job.recipe.batch} videos", file=sys.stderr)
    with ExitStack() as stack:
        stream = stack.enter_context(run.open_stream())
        progress = stack.enter_context(TrainingProgress(job.model, run.total, run.position.step, visible=world.is_main))
        batches = Batches(stream, run.steps_per_epoch, run.position.step, job.recipe.accumulate)
        while run.position.step < run.total:
            stopped = run.step(batches, progress, stop_requested=stop_signal.requested)
            if stopped or (job.save_steps and run.position.step % job.save_steps == 0):
                run.save()
            if run.due():
                run.validate_and_save(progress)
            if stopped:
                progress.note(f"stopped by a signal after step {run.position.step}: continue with --resume")
                break
        run.tell_passed_over(stream)
    ds.disconnect()


def make_deterministic() -> None:
    """Use deterministic kernels; torch warns about each operation that has none. Call it before CUDA is used."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


class Run:
    """A training run on one rank: the engine, its position, validation and checkpoints.

    If the job resumes, the newest checkpoint is loaded and the logs in OUT are truncated to it; else they are emptied.
    All ranks must call the same methods in the same order.
    """

    def __init__(self, job: Job, world: ds.World) -> None:
        self.job, self.world, self.recipe = job, world, job.recipe
        self.index = Index.load(job.data)
        self.steps_per_epoch = len(self.index) // job.recipe.batch
        self.total = total_steps(job.recipe, len(self.index))
        self.interval = max(1, round(job.recipe.validate_epochs * self.steps_per_epoch))
        torch.manual_seed(job.seed)
        network = objective.build_objective(job, len(self.index.classes), world.device)
        folder = job.out / "checkpoints"
        universal = job.resume and ds.convert_for(folder, world)
        if "wandb" in job.monitors:
            ds_config.keep_wandb_in(job.out / "monitor")
        made = ds_config.of_job(job, ds.micro_batch(job.recipe, world.size), universal=universal)
        self.engine = ds.Engine(network, job.recipe, world, made, fused=not ds_config.offloads(made))
        self.ema = Ema(self.engine.network, job.recipe.ema) if job.recipe.ema else None
        self.position = Position()
        if job.resume:
            state = self.engine.resume(folder, universal=universal, ema=self.ema)
            self.position = Position.from_state(state)
            self._tell_about_ranks(state["ranks"])
        if world.is_main:
            job.write()
            (job.out / run_folder.CLASSES).write_text(json.dumps(self.index.classes))
        self.log = run_folder.Log(job.out, self.position.step) if world.is_main else None

    def _tell_about_ranks(self, ranks: int) -> None:
        if ranks != self.world.size and self.world.is_main:
            print(
                f"resumed {ranks} ranks' checkpoint on {self.world.size}: global batches hold the same videos and "
                "clips as before; what depends on a rank's share differs (dropout, batch norm, mixup partners)",
                file=sys.stderr,
            )

    def open_stream(self) -> pipelines.Stream:
        """Open this rank's training stream at the current step."""
        job, recipe, step = self.job, self.recipe, self.position.step
        return stream.open_stream(
            self.index, recipe, job.clip, batch=ds.micro_batch(recipe, self.world.size), device=job.device,
            workers=job.workers, sampler=pipelines.SamplerState(
                seed=job.seed, rank=self.world.rank, world=self.world.size, epoch=step // self.steps_per_epoch,
                batch=step % self.steps_per_epoch * recipe.accumulate,
            ),
        )  # fmt: skip

    def tell_passed_over(self, stream: pipelines.Stream) -> None:
        """Print the videos that were skipped on any rank, and store them in OUT/passed_over.json.

        If the job resumes, the videos that the file already holds are kept.
        """
        found = {pair for part in ds.gather(stream.skipped) for pair in part}
        if not self.world.is_main or not found:
            return
        earlier = (
            {(path, reason) for path, reason in run_folder.read_passed_over(self.job.out)} if self.job.resume else set()
        )
        (self.job.out / run_folder.PASSED_OVER).write_text(json.dumps(sorted(found | earlier)))
        for path, reason in sorted(found):
            print(f"skipped: {path}: {reason}", file=sys.stderr)

    def due(self) -> bool:
        """Whether to validate after the step just taken."""
        return self.position.step % self.interval == 0 or self.position.step == self.total

    def step(self, batches: Batches, progress: TrainingProgress, *, stop_requested: bool) -> bool:
        """Take one optimizer step and log it; return whether any rank was asked to stop (this one: `stop_requested`).

        Raises UserError (SystemExit on other ranks than 0) if more losses or gradients are not finite than the job
        allows.
        """
        step, begin, waited = self.position.step, time.perf_counter(), batches.waited
        torch.manual_seed(
            (self.job.seed * 1_000_003 + step) * 65_536 + self.world.rank
        )  # so that a resumed run repeats its randomness
        lr = self.recipe.lr * factor(self.recipe, step, self.steps_per_epoch)
        found = self.engine.train_step(
            self._arguments(batches, step), lr=lr, stop_requested=stop_requested,
            weight_decay=weight_decay(self.recipe, step, self.steps_per_epoch),
        )  # fmt: skip
        if found.skipped:
            self._skip_or_stop(found, batches, lr)
        elif found.updated and self.ema is not None:
            self.ema.update()
        synchronize(self.world.device)
        wait = batches.waited - waited
        self.position.step = step + 1
        record = {"loss": found.loss, "wait": wait, "compute": time.perf_counter() - begin - wait}
        if found.grad_norm is not None:
            record["grad_norm"] = found.grad_norm
        self._write(step, lr, record)
        progress.advance(record, self.recipe.batch)
        return found.stop_requested

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
        self.engine.log_scalars({"lr": lr, **record, **more}, step)

    def _skip_or_stop(self, found: ds.Step, batches: Batches, lr: float) -> None:
        """Handle a loss or gradient that is not finite: skip within --skip-nan, else dump the batch and stop."""
        self.position.skipped += 1
        files = ds.gather(nonfinite.nonfinite_videos(found, batches.seen, self.index))
        what = "gradient" if math.isfinite(found.loss) else "loss"
        place = f"step {self.position.step}, learning rate {lr:.4g}: {what} not finite; {nonfinite.name(files)}"
        if self.position.skipped <= self.job.max_skipped_steps:
            if self.world.is_main:
                print(f"{place}: skipped ({self.position.skipped} of {self.job.max_skipped_steps})", file=sys.stderr)
            return
        folder = self.job.out / f"nonfinite_step_{self.position.step}"
        self.engine.export(folder / "weights.safetensors")
        nonfinite.dump(folder / f"rank_{self.world.rank}.pt", found.losses, batches.seen, self.index, lr)
        ds.disconnect()
        if not self.world.is_main:
            raise SystemExit(2)
        raise UserError(f"{place}. Weights and batch are in {folder}; lower --lr, or allow some by --skip-nan")

    def save(self) -> None:
        """Average the buffers over ranks and write a checkpoint of the current step."""
        self.engine.average_buffers()
        self.engine.save(
            self.job.out / "checkpoints", self.position.step, asdict(self.position), keep=self.job.keep, ema=self.ema
        )

    def validate_and_save(self, progress: TrainingProgress) -> None:
        """Validate with the EMA weights if there are any, export the weights and write a checkpoint.

        The weights become `best.safetensors` if their metric is the best so far or there is no validation, and
        `last.safetensors` after the last step.
        """
        self.engine.average_buffers()
        with self.ema.swapped_in() if self.ema is not None else ExitStack():
            self._validate_and_export(progress)
        self.save()

    def _validate_and_export(self, progress: TrainingProgress) -> None:
        found = self._validate(progress)
        aside = ("cls_head.token_linear.",) if self.recipe.objective == "token_label" else ()
        if found is not None:
            name, value = found
            progress.note(f"step {self.position.step}: validation {name} {value:.1f} %")
            if self.log is not None:
                self.log.write("validation", {"step": self.position.step, name: value})
            self.engine.log_scalars({name: value}, self.position.step)
        if found is None or found[1] > self.position.best_metric:
            self.position.best_metric = self.position.best_metric if found is None else found[1]
            self.engine.export(self.job.out / "best.safetensors", without=aside)
        if self.position.step == self.total:
            self.engine.export(self.job.out / "last.safetensors", without=aside)

    def _validate(self, progress: TrainingProgress) -> tuple[str, float] | None:
        """Return the validation metric's name and value (percent, one center view a video); None without a split."""
        job, world, network = self.job, self.world, self.engine.network
        if job.validation is None or self.recipe.objective == "maskfeat":
            return None
        index, forwards = Index.load(job.validation), 0
        batch = within_memory(index, job.clip.frames)
        if batch < VALIDATED:
            progress.note(f"validation: {batch} videos at a time, of which no more fit in 1 GiB decoded")
        self.engine.engine.eval()

        def forward(clip: Tensor) -> Tensor:
            nonlocal forwards
            forwards += 1
            with training(world.device, self.recipe.precision):
                return network(clip)

        with pipelines.open(
            index, clip=job.clip, views=Views(), batch=batch, device=job.device, workers=job.workers,
            sampler=pipelines.SamplerState(rank=world.rank, world=world.size),
        ) as stream:  # fmt: skip
            mine = evaluate(forward, stream)
        if self.recipe.zero == 3:  # ZeRO 3 all-gathers in forward(): pad with dummy passes to the maximum over ranks
            clip = torch.zeros(1, 3, job.clip.frames, job.clip.size, job.clip.size, device=world.device)
            with torch.inference_mode():
                for _ in range(max(ds.gather(forwards)) - forwards):
                    forward(clip)
        everything = Predictions.join(ds.gather(mine))
        return everything.main, scores(everything, len(index.classes), "1x1")[everything.main].value


def within_memory(index: Index, frames: int) -> int:
    """Return the validation batch size, 1..32 videos: as many as fit in 1 GiB decoded, with `frames` frames a clip.

    The largest video counts, uncropped; one that alone exceeds 1 GiB still gives 1.
    """
    if not len(index):
        return VALIDATED
    columns = (index.table[name].to_numpy(dtype="int64") for name in ("frames", "width", "height"))
    decoded = [min(length, frames) * width * height * 3 for length, width, height in zip(*columns, strict=True)]
    return max(1, min(VALIDATED, DECODED // int(max(decoded))))


def memory_mib(device: torch.device) -> float:
    """Return the peak GPU memory allocated so far, or on a CPU the process's current resident memory, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import psutil

    return psutil.Process().memory_info().rss / 2**20
