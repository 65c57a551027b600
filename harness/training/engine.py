"""The only file that imports deepspeed and uses torch.distributed: connect, train_step, gather, save, resume.

Every rank must call what communicates: all methods of `Engine`, except `log_scalars`, and all functions here, except
`joined_weights` and `micro_batch`; one that does not leaves the others waiting.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...spec import Recipe
from . import checkpoints, durable, launcher, optimizer, universal
from .ema import Ema
from .schedule import parameter_groups

INFERENCE_EXTENSION = "deepspeed_shm_comm"  # communication in shared memory between CPU ranks: half a minute of g++


@dataclass(frozen=True)
class World:
    """This process's rank among those of all machines, their number (`size`), and this process's device."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes logs and shows progress."""
        return self.rank == 0


def connect(device: str) -> World:
    """Initialize torch.distributed among the ranks that a launcher started, or with one rank without a launcher.

    Sets environment variables of this process; on `cuda` it uses the GPU numbered LOCAL_RANK.
    """
    os.environ.update(launcher.tools(device))
    import deepspeed

    # Private, as there is no option: what DeepSpeed asks before it compiles an extension that only inference uses.
    deepspeed.ops.__compatible_ops__[INFERENCE_EXTENSION] = False
    if "RANK" not in os.environ:
        alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        os.environ.update(alone, MASTER_PORT=str(launcher.free_port()))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        torch.cuda.set_device(local)
    deepspeed.init_distributed(dist_backend="nccl" if device == "cuda" else "gloo", verbose=False)
    place = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    return World(torch.distributed.get_rank(), torch.distributed.get_world_size(), place)


def disconnect() -> None:
    """Destroy the process groups after a barrier: a rank that exits early would abort peers still communicating.

    DeepSpeed keeps groups of its own, which would be used, dead, by the next engine of this process.
    """
    import deepspeed

    torch.distributed.barrier()
    deepspeed.comm.destroy_process_group()


def gather(value: Any) -> list[Any]:
    """Return every rank's value, which must be picklable, on every rank, in rank order."""
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def joined_weights(tag: Path) -> dict[str, Tensor] | None:
    """Return the consolidated fp32 weights of one DeepSpeed checkpoint's ZeRO 3 shards; None if it is not sharded."""
    if not list(tag.glob("zero_pp_rank_*_model_states.pt")):
        return None
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with contextlib.redirect_stdout(sys.stderr):
        return get_fp32_state_dict_from_zero_checkpoint(str(tag.parent), tag=tag.name)


def agree(error: str, world: World) -> None:
    """Raise UserError with the first rank's error that is not "" (SystemExit on other ranks than 0)."""
    found = [text for text in gather(error) if text]
    if found and not world.is_main:
        raise SystemExit(2)
    if found:
        raise UserError(found[0])


def on_main(action: Callable[[], object], world: World) -> None:
    """Call `action` on rank 0 while the others wait; its UserError ends them too (see `agree`)."""
    error = ""
    if world.is_main:
        try:
            action()
        except UserError as raised:
            error = str(raised)
    agree(error, world)


def convert_for(checkpoint: Path, objective: nn.Module, recipe: Recipe, world: World) -> bool:
    """Convert a checkpoint to its universal form if this world size or ZeRO stage needs it; return whether it does.

    Raises UserError (SystemExit on other ranks than 0) if it cannot be converted.
    """
    saved = checkpoints.read_state(checkpoint)
    if saved["zero"] == recipe.zero and (saved["ranks"] == world.size or not recipe.zero):
        return False

    def convert() -> None:
        try:
            universal.convert(checkpoint, _names(objective, recipe), recipe.zero)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{checkpoint} cannot be converted for this run: {type(error).__name__}: {reason}"
            ) from None

    on_main(convert, world)
    return True


def _names(objective: nn.Module, recipe: Recipe) -> list[list[str]]:
    """Return the names, within the objective, of the parameters of each of the optimizer's groups."""
    network: Any = objective.network
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in parameter_groups(network, recipe)]


@dataclass(frozen=True)
class Step:
    """The outcome of one optimizer step; all but `losses` is the same on every rank.

    `loss` is the mean over ranks and micro-batches, `grad_norm` the norm before clipping (None if the weights were not
    updated). A step is `skipped` if any rank's loss or the gradient is not finite. An fp16 overflow that a smaller loss
    scale can mend does not count as skipped, although the weights are not `updated` either. `stop_requested` is True if
    any rank was asked to stop. `losses` are this rank's, one per micro-batch.
    """

    loss: float
    grad_norm: float | None
    skipped: bool
    updated: bool
    stop_requested: bool
    losses: tuple[float, ...]


class Engine:
    """An objective under DeepSpeed: `train_step` over micro-batches, `save`, `resume`, `export`.

    `objective` maps a micro-batch to its loss; its attribute `network` is what is trained and exported. `settings` is
    DeepSpeed's configuration (see `ds_config`). `fused` uses torch's fused optimizer kernels (five times as fast on a
    CPU); they do not work with offloading.
    """

    def __init__(
        self, objective: nn.Module, recipe: Recipe, world: World, settings: dict[str, Any], *, fused: bool = True
    ) -> None:
        import deepspeed

        self.recipe, self.world, self._writer = recipe, world, durable.Writer()
        network: Any = objective.network
        self.optimizer = optimizer.build(network, recipe, fused=fused)
        self.scales = [(group["lr_scale"], group["decay_scale"]) for group in self.optimizer.param_groups]
        if recipe.zero == 0:
            settings = {**settings, "gradient_clipping": 0.0}  # see `_clip`
        with contextlib.redirect_stdout(sys.stderr):  # where a configuration has an operator compiled, that prints
            self.engine: Any = deepspeed.initialize(model=objective, optimizer=self.optimizer, config=settings)[0]
        if recipe.zero == 0 and world.size == 1:
            self.engine.enable_backward_allreduce = False  # there are no peers
        # DeepSpeed's barriers would hang if a rank left at a full disk: its errors are kept until all have written.
        self.engine.checkpoint_engine.save = self._writer.save
        copy = self.engine._copy_recovery_script
        self.engine._copy_recovery_script = partial(durable.attempt, copy)  # a tool for others, no part of a checkpoint
        self._monitored, self.engine.monitor.enabled = self.engine.monitor.enabled, False  # see `log_scalars`
        self.network: nn.Module = self.engine.module.network
        self._parameters = [p for p in self.network.parameters() if p.requires_grad]
        self._buffers = [b for b in self.network.buffers() if b.is_floating_point()]
        self._kept = [b.clone() for b in self._buffers]

    def train_step(
        self, batches: Iterable[tuple[Any, ...]], *, lr: float, weight_decay: float, stop_requested: bool = False
    ) -> Step:
        """Run forward and backward on each micro-batch (a tuple of the objective's arguments), then one optimizer step.

        Give it `recipe.accumulate` micro-batches. `lr` and `weight_decay` are the base values, which each parameter
        group multiplies by its own factors. The update is skipped on all ranks if any rank's loss or the gradient is
        not finite. `stop_requested` is combined over ranks (see `Step`).
        """
        for group, (scale, decay_scale) in zip(self.engine.optimizer.param_groups, self.scales, strict=True):
            group["lr"], group["weight_decay"] = lr * scale, weight_decay * decay_scale
        self.engine.train()  # every step: a module that says it is training may hold parts that are not to
        self._copy(self._buffers, self._kept)
        losses: list[Tensor] = []
        for arguments in batches:
            if losses:
                self.engine.step()  # ends the previous micro-batch; only the last one's updates the weights
            loss = self.engine(*arguments)
            self.engine.backward(loss)
            losses.append(loss.detach().float())
        mean, bad, stop = self._agree(torch.stack(losses), stop_requested)
        norm = self._clip()
        # torch 2.13's fused SGD takes no step on inf gradients, but keeps an empty momentum: so skip it ourselves.
        self.optimizer.skip_step = bad or (norm is not None and not math.isfinite(norm))
        scale, scalable = self._scale(), self._scaler is not None and self._scaler.get_scale() > 1
        self.engine.step()
        self._scale_down(scale)
        updated = not (self.optimizer.skip_step or getattr(self.engine.optimizer, "overflow", False))
        skipped = bad or not (updated or scalable)
        if skipped:
            self._copy(self._kept, self._buffers)  # restore batch norm's running statistics, maybe not finite now
        norm = self.engine.get_global_grad_norm() if norm is None else norm
        norm = float(norm) / scale if updated and norm is not None else None
        return Step(mean, norm, skipped, updated, stop, tuple(float(loss) for loss in losses))

    @staticmethod
    def _copy(source: list[Tensor], target: list[Tensor]) -> None:
        if source:
            # One kernel for hundreds of small buffers: torch has no public copy of a list.
            torch._foreach_copy_(target, source)  # pyright: ignore[reportPrivateImportUsage]

    def _agree(self, losses: Tensor, stop_requested: bool) -> tuple[float, bool, bool]:
        """Return over all ranks: the mean loss, whether any loss is not finite, whether any was asked to stop."""
        stop = losses.new_tensor(float(stop_requested))
        values = torch.stack([losses.mean(), (~torch.isfinite(losses)).any().float(), stop])
        if self.world.size > 1:
            torch.distributed.all_reduce(values)
        mean, bad, stops = values.tolist()
        return mean / self.world.size, bad > 0, stops > 0

    def _clip(self) -> Tensor | None:
        """Without ZeRO, clip the gradients and return their norm before it; DeepSpeed's is slower and keeps no norm."""
        if self.recipe.zero:
            return None
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        parameters = [p for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.recipe.clip_grad:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.recipe.clip_grad, norm)
        return norm

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler of fp16 training, wherever DeepSpeed keeps it."""
        owner, name = (self.engine.optimizer, "") if self.recipe.zero else (self.engine, "_z0")
        return getattr(owner, f"torch_autocast{name}_gradscaler", None)

    def _scale(self) -> float:
        """Return the loss scale of ZeRO's gradients; DeepSpeed 0.19 clips before unscaling, so its limit is scaled."""
        if not self.recipe.zero:
            return 1.0
        scale = self._scaler.get_scale() if self._scaler is not None else 1.0
        self.engine.optimizer.clip_grad = self.recipe.clip_grad * scale
        return scale

    def _scale_down(self, scale: float) -> None:
        """Halve the loss scale after an overflow under ZeRO: DeepSpeed 0.19 skips the step but keeps the scale."""
        if self.recipe.zero and self._scaler is not None and self.engine.optimizer.overflow:
            self._scaler.update(scale / 2)

    def log_scalars(self, values: dict[str, float], step: int) -> None:
        """Log values, as `train/NAME`, to DeepSpeed's monitors: TensorBoard, CSV, Weights & Biases.

        Does nothing on other ranks than 0, or without monitors.
        DeepSpeed's own events are off: they use samples as the step, so W&B would reject ours as out of order.
        """
        if self._monitored and self.world.is_main:
            self.engine.monitor.write_events([(f"train/{name}", value, step) for name, value in values.items()])

    def average_buffers(self) -> None:
        """Average the floating-point buffers, such as batch-norm statistics, over ranks: each rank saw other videos.

        In double precision, so that a buffer that is the same on all ranks, such as a frozen one, keeps every bit.
        """
        if self.world.size == 1:
            return
        for buffer in self._buffers:
            total = buffer.double()
            torch.distributed.all_reduce(total)
            buffer.copy_(total / self.world.size)

    def save(self, folder: Path, step: int, state: dict[str, Any], *, keep: int, ema: Ema | None = None) -> None:
        """Write the checkpoint `folder/step_STEP`, on disk and whole or not at all, and point `latest` to it.

        `state` must be serializable to JSON. All but the newest `keep` checkpoints are deleted (see
        `checkpoints.prune`). Raises UserError (SystemExit on other ranks than 0) if it cannot be written; the earlier
        checkpoints stay.
        """
        written = checkpoints.part(folder, step)
        on_main(lambda: checkpoints.begin(written), self.world)
        scaler = self._scaler.state_dict() if self._scaler is not None else None
        state = {**state, "ranks": self.world.size, "zero": self.recipe.zero, "scaler": scaler}
        self.engine.save_checkpoint(str(folder), tag=written.name, client_state=state, save_latest=False)
        if ema is not None and (self.world.is_main or self.recipe.zero == 3):
            self._writer.save(ema.by_name(), str(written / f"ema_{self.world.rank}.pt"))
        error = self._writer.take_error()
        try:
            agree(error and str(durable.failed(folder, error)), self.world)
            on_main(lambda: checkpoints.finish(written, state), self.world)
        except BaseException:
            checkpoints.remove(written)
            raise
        if self.world.is_main:
            checkpoints.prune(folder, step, keep)

    def resume(self, tag: Path, *, converted: bool = False, ema: Ema | None = None) -> dict[str, Any]:
        """Load a checkpoint and `ema`; return the state saved with it, with the `ranks` and `zero` of the run then.

        `converted` loads the universal form that `convert_for` made. If the checkpoint has no averages, `ema` starts
        from the weights. Raises UserError if the checkpoint does not fit the job.
        """
        state = checkpoints.read_state(tag)
        try:
            self._load(tag, converted=converted)
        except (OSError, RuntimeError, KeyError, ValueError, AssertionError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise UserError(f"{tag} does not fit this job: {reason}: start in another --out") from None
        for values in self.optimizer.state.values():
            if isinstance(values.get("step"), Tensor):
                values["step"] = values["step"].clone()  # ZeRO 3 loads one shared counter, which then runs ahead
        if self._scaler is not None and state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        if ema is not None:
            shares = [tag / f"ema_{share}.pt" for share in range(state["ranks"] if state["zero"] == 3 else 1)]
            ema.load(shares, self.world.rank) if shares[0].exists() else ema.restart()
        return state

    def _load(self, tag: Path, *, converted: bool) -> None:
        """Load weights, buffers and the optimizer's state."""
        folder = checkpoints.universal(tag) if converted else tag
        module: nn.Module = self.engine.module
        if not converted or self.recipe.zero:
            self.engine.load_checkpoint(str(tag.parent), tag=folder.name)
        else:
            parameters = dict(module.named_parameters())
            universal.load_plain(folder, _names(module, self.recipe), parameters, self.optimizer)
        if converted:  # a universal form is loaded for the parameters only
            saved = universal.buffers(folder)
            for name, buffer in module.named_buffers():
                if name in saved:
                    buffer.copy_(saved[name])

    def export(self, path: Path, *, without: tuple[str, ...] = ()) -> None:
        """Write the network's weights as safetensors, on rank 0; keys starting with one of `without` are excluded.

        Raises UserError (SystemExit on other ranks than 0) if they cannot be written; an earlier file stays.
        """
        from safetensors.torch import save_file

        prefix = next(name for name, module in self.engine.module.named_modules() if module is self.network) + "."
        if self.recipe.zero == 3:
            # The public `save_16bit_model` gathers the shards by this, but can only write them down, as a pickle.
            whole = self.engine._zero3_consolidated_16bit_state_dict() or {}
            state = {k.removeprefix(prefix): v for k, v in whole.items() if k.startswith(prefix)}
        else:
            state = self.network.state_dict()

        def write() -> None:
            kept = {k: v.detach().contiguous().cpu() for k, v in state.items() if not k.startswith(without or "\0")}
            with durable.one_line(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
                durable.write(path, lambda part: save_file(kept, str(part)))

        on_main(write, self.world)


def micro_batch(recipe: Recipe, ranks: int) -> int:
    """Return the videos per rank and accumulation step. Raises UserError if the global batch does not divide evenly."""
    shares = recipe.accumulate * ranks
    if recipe.batch % shares:
        raise UserError(
            f"batch {recipe.batch} does not divide over {ranks} ranks × {recipe.accumulate} accumulation steps: "
            f"choose a multiple of {shares}"
        )
    return recipe.batch // shares
