"""The training loop, one process a rank: `deepspeed --num_gpus 2 --module reelbench.harness.training MODEL --data …`.

Leaves in OUT: `train.jsonl` (one line an optimizer step), `validation.jsonl`, `checkpoints/` to resume from, and the
weights alone (the EMA's if there is one): `best.safetensors`, without validation the newest, and, once training is
complete, `last.safetensors`. SIGTERM, SIGUSR1, SIGINT and SIGHUP save a checkpoint and end with 0.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import pipelines
from ...errors import INTERRUPTED, UserError
from ...pipelines.index import Index
from ...spec import Views
from ..lineage import kill_descendants
from ..measuring.accuracy import Predictions, evaluate, scores
from ..measuring.execution import training
from ..measuring.timing import synchronize
from ..progress import TrainingProgress
from . import checkpoints, ds_config, losses, nonfinite, objective, record, run_folder, stream
from . import engine as ds
from .batches import Batches
from .ema import Ema
from .job import Job
from .schedule import factor, total_steps, weight_decay
from .signals import StopSignal, shield_tracker

VALIDATED = 32  # largest validation batch, in videos
DECODED = 1 << 30  # bytes of a validation batch's uncropped RGB frames; the decoder prefetches two more batches


@dataclass
class Position:
    """Training progress: optimizer steps taken, those of them skipped, best validation metric (percent, -1 before any).

    `place` is where the run is in its epochs, in steps of the present batch; it differs from `step` by `shift` if
    earlier steps had another batch. `pending` is whether the validation after the last step is still to be done.
    """

    step: int = 0
    best_metric: float = -1.0
    skipped: int = 0
    shift: int = 0
    pending: bool = False

    @property
    def place(self) -> int:
        """The number of steps of the present batch that epochs up to here have."""
        return self.step - self.shift

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Position:
        """Return the position in a checkpoint's state, whose keys earlier versions named `best` and `held`."""
        best, skipped = state.get("best_metric", state.get("best", -1.0)), state.get("skipped", state.get("held", 0))
        shift, pending = state.get("shift", 0), state.get("pending", False)
        return cls(step=state["step"], best_metric=best, skipped=skipped, shift=shift, pending=pending)

    def with_batch(self, before: int, now: int, videos: int) -> Position:
        """Return the same place in the data, of `videos` an epoch, in steps of another batch.

        If the videos seen of the present epoch do not fill whole batches, the last ones are seen again.

        >>> Position(step=6).with_batch(8, 16, videos=48).place
        3
        """
        epoch, steps = divmod(self.place, videos // before)
        return replace(self, shift=self.step - epoch * (videos // now) - steps * before // now)


def train(job: Job) -> None:
    """Train as one rank to the end of the recipe, or to a signal that stops it, validating and saving on the way.

    Call it in the main thread of every rank. Raises UserError if loss or gradient are not finite more often than the
    job allows, OUT is in use or holds a run that the job neither resumes nor overwrites, or a checkpoint cannot be
    written (SystemExit on other ranks than 0).
    """
    stop_signal = StopSignal(at_once=_end_at_once)
    shield_tracker()
    if job.deterministic:
        make_deterministic()
    world = ds.connect(job.device)
    if world.is_main:
        print(f"peak learning rate {job.recipe.lr:.4g} for batches of {job.recipe.batch} videos", file=sys.stderr)
    with ExitStack() as stack:
        ds.on_main(lambda: stack.enter_context(run_folder.claim(job)), world)
        if job.overwrite and world.is_main:
            run_folder.clear(job.out)
        run = Run(job, world)
        stream = stack.enter_context(run.open_stream())
        title, place = job.model, run.position.place
        progress = stack.enter_context(TrainingProgress(title, run.total, place, visible=world.is_main))
        batches = Batches(stream, run.steps_per_epoch, place, job.recipe.accumulate)
        if run.position.pending:
            run.validate_and_save(progress)
        while run.position.place < run.total:
            stopped = run.step(batches, progress, stop_requested=stop_signal.requested or bool(run.trouble))
            if stopped or (job.save_steps and run.position.step % job.save_steps == 0):
                run.save()
            if run.position.pending:
                run.validate_and_save(progress)
            if stopped and run.position.place < run.total:
                progress.note(f"stopped by a signal after step {run.position.step}: continue with --resume")
                break
        ds.agree(run.trouble, world)
        run.tell_passed_over(stream)
    ds.disconnect()


def _end_at_once() -> None:
    """End this rank and its decoders without saving: at a second Ctrl-C."""
    kill_descendants(os.getpid())
    os._exit(INTERRUPTED)


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
        self.record = record.describe(job, self.index)
        tag = checkpoints.newest(job.out / run_folder.CHECKPOINTS) if job.resume else None
        converted = tag is not None and ds.convert_for(tag, network, job.recipe, world)
        if "wandb" in job.monitors:
            ds_config.keep_wandb_in(job.out / "monitor")
        made = ds_config.of_job(
            job, ds.micro_batch(job.recipe, world.size), universal=converted and job.recipe.zero > 0
        )
        self.engine = ds.Engine(network, job.recipe, world, made, fused=not ds_config.offloads(made))
        self.ema = Ema(self.engine.network, job.recipe.ema) if job.recipe.ema else None
        self.position = Position()
        if tag is not None:
            state = self.engine.resume(tag, converted=converted, ema=self.ema)
            before = record.read_saved(tag).get("batch", job.recipe.batch)
            self.position = Position.from_state(state)
            if before != job.recipe.batch:
                self.position = self.position.with_batch(before, job.recipe.batch, len(self.index))
            self._tell_about_ranks(state["ranks"])
            self._tell_about_settings(tag)
        if world.is_main:
            job.write()
            record.write(job.out, self.record)
            (job.out / run_folder.CLASSES).write_text(json.dumps(self.index.classes))
        self.log = run_folder.Log(job.out, self.position.step) if world.is_main else None

    def _tell_about_settings(self, tag: Path) -> None:
        if not self.world.is_main:
            return
        for damaged in checkpoints.newer_damaged(tag.parent):
            print(f"{tag.parent}: {damaged}: resumed from {tag.name} instead", file=sys.stderr)
        changed = record.compare(tag, self.record)
        if changed:
            print(f"resumed with other settings: {', '.join(changed)}", file=sys.stderr)
        if self.ema is not None and not record.read_saved(tag).get("ema", True):
            print("the moving average of the weights starts from those of the checkpoint", file=sys.stderr)

    def _tell_about_ranks(self, ranks: int) -> None:
        if ranks != self.world.size and self.world.is_main:
            print(
                f"resumed {ranks} ranks' checkpoint on {self.world.size}: global batches hold the same videos and "
                "clips as before; what depends on a rank's share differs (dropout, batch norm, mixup partners)",
                file=sys.stderr,
            )

    @property
    def trouble(self) -> str:
        """Why the run must stop, said by the rank that has it: its log cannot be written. "" for none."""
        return self.log.error if self.log is not None else ""

    def open_stream(self) -> pipelines.Stream:
        """Open this rank's training stream at the current step."""
        job, recipe, step = self.job, self.recipe, self.position.place
        return stream.open_stream(
            self.index, recipe, job.clip, batch=ds.micro_batch(recipe, self.world.size), device=job.device,
            workers=job.workers, decoder=job.decoder, sampler=pipelines.SamplerState(
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

    def _due(self) -> bool:
        return self.position.place % self.interval == 0 or self.position.place == self.total

    def step(self, batches: Batches, progress: TrainingProgress, *, stop_requested: bool) -> bool:
        """Take one optimizer step and log it; return whether any rank was asked to stop (this one: `stop_requested`).

        Raises UserError (SystemExit on other ranks than 0) if more losses or gradients are not finite than the job
        allows.
        """
        step, place = self.position.step, self.position.place
        begin, waited = time.perf_counter(), batches.waited
        torch.manual_seed(
            (self.job.seed * 1_000_003 + step) * 65_536 + self.world.rank
        )  # so that a resumed run repeats its randomness
        lr = self.recipe.lr * factor(self.recipe, place, self.steps_per_epoch)
        found = self.engine.train_step(
            self._arguments(batches, step), lr=lr, stop_requested=stop_requested,
            weight_decay=weight_decay(self.recipe, place, self.steps_per_epoch),
        )  # fmt: skip
        if found.skipped:
            self._skip_or_stop(found, batches, lr)
        elif found.updated and self.ema is not None:
            self.ema.update()
        synchronize(self.world.device)
        wait = batches.waited - waited
        self.position.step = step + 1
        self.position.pending = self._due()
        record = {"loss": found.loss, "wait": wait, "compute": time.perf_counter() - begin - wait}
        if found.grad_norm is not None:
            record["grad_norm"] = found.grad_norm
        self._write(step, place / self.steps_per_epoch, lr, record)
        progress.advance(record, self.recipe.batch)
        return found.stop_requested

    def _arguments(self, batches: Batches, step: int) -> Iterator[tuple[Any, ...]]:
        batches.seen.clear()
        for batch in itertools.islice(batches, self.recipe.accumulate):
            yield batch.clip, batch.label, losses.Draw(self.job.seed, step, tuple(batch.video.tolist()))

    def _write(self, step: int, epoch: float, lr: float, record: dict[str, float]) -> None:
        if self.log is None:
            return
        speed = self.recipe.batch / (record["wait"] + record["compute"])
        more = {"clips_s": speed, "memory_mib": memory_mib(self.world.device)}
        self.log.write("train", {"step": step, "epoch": epoch, "lr": lr, **record, **more})
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
        state = {**asdict(self.position), record.KEY: self.record}
        folder = self.job.out / run_folder.CHECKPOINTS
        self.engine.save(folder, self.position.step, state, keep=self.job.keep, ema=self.ema)

    def validate_and_save(self, progress: TrainingProgress) -> None:
        """Validate with the EMA weights if there are any, export the weights and write a checkpoint.

        The weights become `best.safetensors` if their metric is the best so far or there is no validation, and
        `last.safetensors` after the last step.
        """
        self.engine.average_buffers()
        with self.ema.swapped_in() if self.ema is not None else ExitStack():
            self._validate_and_export(progress)
        self.position.pending = False
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
        if self.position.place == self.total:
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
            decoder=job.decoder, sampler=pipelines.SamplerState(rank=world.rank, world=world.size),
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
