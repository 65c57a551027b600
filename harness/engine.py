"""The only file that knows deepspeed and torch.distributed: connect, initialise, step, gather, save, resume, launch."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import UserError
from .schedule import parameter_groups
from .spec import Recipe


@dataclass(frozen=True)
class World:
    """This process among its peers, and the device it works on."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """True on the one rank that writes logs and shows progress."""
        return self.rank == 0


def connect(device: str) -> World:
    """Join the ranks that a launcher started; without a launcher this process is a world of its own."""
    import deepspeed

    if "RANK" not in os.environ:
        alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        os.environ.update(alone, MASTER_PORT=str(free_port()))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        torch.cuda.set_device(local)
    deepspeed.init_distributed(dist_backend="nccl" if device == "cuda" else "gloo", verbose=False)
    place = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    return World(torch.distributed.get_rank(), torch.distributed.get_world_size(), place)


def disconnect() -> None:
    """Leave together: a rank that exits while a peer still talks to it would abort the peer."""
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def gather(value: Any) -> list[Any]:
    """Return every rank's value, on every rank, in rank order."""
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


class Engine:
    """A model under DeepSpeed: `train_step` over micro-batches, `module` to evaluate, `save`, `resume`, `export`."""

    def __init__(self, model: nn.Module, recipe: Recipe, world: World, config: Path | None = None) -> None:
        import deepspeed

        self.recipe, self.world = recipe, world
        optimizer = _optimizer(model, recipe)
        settings = _settings(recipe, world, config)
        self.engine: Any = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)[0]
        self.module: nn.Module = self.engine.module
        self.scales = [group["lr_scale"] for group in optimizer.param_groups]

    def train_step(self, batches: Iterable[tuple[Tensor, Tensor]], lr: float) -> dict[str, float]:
        """Take one optimiser step over micro-batches of (clip, label).

        Returns `loss`, the mean over all ranks, and `grad_norm` before clipping, where DeepSpeed knows it (ZeRO 1-3).
        """
        for group, scale in zip(self.engine.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = lr * scale
        losses = []
        for clip, label in batches:
            logits = self.engine(clip)
            smoothing = self.recipe.label_smoothing
            loss = nn.functional.cross_entropy(logits.float(), label, label_smoothing=smoothing)
            self.engine.backward(loss)
            self.engine.step()
            losses.append(loss.detach())
        mean = torch.stack(losses).mean()
        torch.distributed.all_reduce(mean)
        norm = self.engine.get_global_grad_norm()
        return {"loss": float(mean) / self.world.size, **({} if norm is None else {"grad_norm": float(norm)})}

    def save(self, folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> None:
        """Write a checkpoint that `resume` continues from; `latest` names it only once it is whole."""
        self.engine.save_checkpoint(str(folder), tag=f"step_{step}", client_state=state)
        if self.world.leads:
            _forget_old(folder, keep)

    def resume(self, folder: Path) -> dict[str, Any]:
        """Load the newest whole checkpoint and return the state saved with it."""
        if not (folder / "latest").exists():
            raise UserError(f"nothing to resume in {folder}: leave --resume away to start afresh")
        _, state = self.engine.load_checkpoint(str(folder))
        return state or {}

    def export(self, path: Path) -> None:
        """Write the model's weights alone (safetensors), from rank 0."""
        from safetensors.torch import save_file

        state = self.engine._zero3_consolidated_16bit_state_dict() if self.recipe.zero == 3 else None
        if self.world.leads:
            weights = state or self.module.state_dict()
            temporary = path.with_suffix(".part")
            save_file({k: v.contiguous().cpu() for k, v in weights.items()}, str(temporary))
            temporary.replace(path)
        torch.distributed.barrier()


def command(arguments: list[str], *, ranks: int = 1, hostfile: Path | None = None) -> list[str]:
    """Return the DeepSpeed launcher's command line for `python -m reelbench.harness.train` with these arguments."""
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--log_level", "warning", "--no_local_rank"]
    place = ["--hostfile", str(hostfile)] if hostfile else ["--num_gpus", str(ranks), "--master_port", str(free_port())]
    return [*launcher, *place, "--module", "reelbench.harness.train", *arguments]


def environment(device: str) -> dict[str, str]:
    """Return the launcher's environment: DeepSpeed finds ninja on PATH and is told to stay off the GPU for `cpu`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    accelerator = {"DS_ACCELERATOR": "cpu"} if device == "cpu" else {}
    return {**os.environ, "PATH": path, **accelerator}


def free_port() -> int:
    """Return a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def micro_batch(recipe: Recipe, ranks: int) -> int:
    """Return the clips a rank sees at once; a global batch that does not divide is a `UserError`."""
    shares = recipe.accumulate * ranks
    if recipe.batch % shares:
        raise UserError(
            f"batch {recipe.batch} does not divide over {ranks} ranks × {recipe.accumulate} accumulation steps: "
            f"choose a multiple of {shares}"
        )
    return recipe.batch // shares


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    groups = parameter_groups(model, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def _settings(recipe: Recipe, world: World, config: Path | None) -> dict[str, Any]:
    """Return DeepSpeed's configuration: the recipe's, over which the user's own file may set anything else."""
    dtype = {"bf16": "bfloat16", "fp16": "float16"}.get(recipe.precision)
    ours: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch(recipe, world.size),
        "gradient_accumulation_steps": recipe.accumulate,
        "gradient_clipping": recipe.clip_grad,
        "zero_optimization": {"stage": recipe.zero},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    if dtype:
        ours["torch_autocast"] = {"enabled": True, "dtype": dtype}
    if config is None:
        return ours
    theirs = _read_config(config)
    conflicts = sorted(k for k in theirs.keys() & ours.keys() if theirs[k] not in (ours[k], "auto"))
    if conflicts:
        raise UserError(f"{config}: {', '.join(conflicts)} contradict the recipe: set them by the recipe's own flags")
    return {**theirs, **ours}


def _read_config(config: Path) -> dict[str, Any]:
    try:
        return json.loads(config.read_text())
    except OSError as error:
        raise UserError(f"{config}: {error.strerror}: name a DeepSpeed JSON file with --deepspeed") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{config}: not JSON ({error}): name a DeepSpeed JSON file with --deepspeed") from None


def _forget_old(folder: Path, keep: int) -> None:
    import shutil

    steps = sorted((int(p.name.removeprefix("step_")), p) for p in folder.glob("step_*") if p.is_dir())
    for _, path in steps[:-keep]:
        shutil.rmtree(path, ignore_errors=True)
