"""The `train` verb; launchers start it in every rank too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..device import resolve_device
from ..training.job import Job, adjust, find_clip, find_recipe


def train(
    model: Annotated[str, typer.Argument(help="Address of the model, such as video_swin/t.")],
    data: Annotated[Path, typer.Option(help="Index of the training videos.")],
    val: Annotated[Path | None, typer.Option(help="Index of the validation videos.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of one of the model's recipes, or a JSON file.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and logs.")] = Path("runs/train"),
    objective: Annotated[str | None, typer.Option(help="classify, multilabel or maskfeat.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data.")] = None,
    batch: Annotated[int | None, typer.Option(help="Global batch, all ranks and accumulation steps.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Gradient accumulation steps.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or sgd.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of the recipe's batch.")] = None,
    auto_scale_lr: Annotated[
        bool | None, typer.Option("--auto-scale-lr/--no-auto-scale-lr", help="Scale it with --batch.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.")] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine, step or constant.")] = None,
    schedule_by: Annotated[str | None, typer.Option(help="step or epoch: how often the rate changes.")] = None,
    warmup_epochs: Annotated[float | None, typer.Option(help="Epochs of linear warm-up.")] = None,
    warmup_by: Annotated[str | None, typer.Option(help="step or epoch.")] = None,
    clip_grad: Annotated[float | None, typer.Option(help="Largest gradient norm; 0 does not clip.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Label smoothing.")] = None,
    mixup: Annotated[float | None, typer.Option(help="Alpha of mixup; 0 is off.")] = None,
    cutmix: Annotated[float | None, typer.Option(help="Alpha of cutmix; 0 is off.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the weights' moving average; 0 is off.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16.")] = None,
    zero: Annotated[int | None, typer.Option(help="ZeRO stage 0, 1, 2 or 3.")] = None,
    offload: Annotated[bool, typer.Option("--offload", help="Keep ZeRO's state in the CPU's memory.")] = False,
    checkpoint_activations: Annotated[
        bool, typer.Option("--checkpoint-activations", help="Compute activations twice to save memory.")
    ] = False,
    crop: Annotated[str | None, typer.Option(help="random_resized, multi_scale, random or center.")] = None,
    flip: Annotated[float | None, typer.Option(help="Probability of a left-right flip.")] = None,
    rand_augment: Annotated[str | None, typer.Option(help="The recipe's RandAugment, or none.")] = None,
    color_jitter: Annotated[float | None, typer.Option(help="Strength of colour jitter.")] = None,
    erase: Annotated[float | None, typer.Option(help="Probability of random erasing.")] = None,
    validate_epochs: Annotated[float | None, typer.Option(help="Epochs between validations.")] = None,
    clip: Annotated[Path | None, typer.Option(help="JSON file of the clip; the model's own by default.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a clip.")] = None,
    stride: Annotated[int | None, typer.Option(help="Frames from one to the next, in dense sampling.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels of a clip's side.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda or cpu; the GPU where there is one.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Ranks on this machine (on a CPU: processes).")] = 1,
    hostfile: Annotated[Path | None, typer.Option(help="DeepSpeed hostfile, for several machines.")] = None,
    node_rank: Annotated[
        int | None, typer.Option(help="This machine's place in the hostfile: start each machine yourself, no ssh.")
    ] = None,
    master: Annotated[str | None, typer.Option(help="ADDRESS:PORT of the first machine, with --node-rank.")] = None,
    deepspeed: Annotated[Path | None, typer.Option(help="Your own DeepSpeed JSON, merged.")] = None,
    monitor: Annotated[str | None, typer.Option(help="csv, tensorboard, wandb, or several with commas.")] = None,
    init_from: Annotated[Path | None, typer.Option(help="Video checkpoint to fine-tune from.")] = None,
    pretrained: Annotated[Path | None, typer.Option(help="2D image checkpoint to inflate.")] = None,
    annotator: Annotated[Path | None, typer.Option(help="Weights of the model that labels tokens.")] = None,
    linear_probe: Annotated[bool, typer.Option("--linear-probe", help="Train the head alone.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT's newest checkpoint.")] = False,
    keep: Annotated[int, typer.Option(min=1, help="Newest checkpoints to keep; the best weights stay too.")] = 2,
    save_steps: Annotated[int, typer.Option(min=0, help="Steps between checkpoints, besides validations.")] = 0,
    skip_nan: Annotated[int, typer.Option(min=0, help="Steps that may have a loss that is not finite.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Reading processes a rank.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="Deterministic kernels, slower.")] = False,
    local_rank: Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)] = 0,
) -> None:
    """Train a model through the DeepSpeed launcher.

    Example: reelbench train video_swin/t --data k400_train.parquet --val k400_val.parquet --recipe kinetics400 --gpus 8

    The same options go to `deepspeed --num_gpus 8 --module reelbench.harness.training …`, to torchrun and to srun.
    """
    from ..training import launch

    chosen = adjust(
        find_recipe(model, recipe), objective=objective, epochs=epochs, batch=batch, accumulate=accumulate,
        optimizer=optimizer, lr=lr, auto_scale_lr=auto_scale_lr, weight_decay=weight_decay, schedule=schedule,
        schedule_by=schedule_by, warmup_epochs=warmup_epochs, warmup_by=warmup_by, clip_grad=clip_grad,
        label_smoothing=label_smoothing, mixup=mixup, cutmix=cutmix, ema=ema, precision=precision, zero=zero, crop=crop,
        flip=flip, rand_augment=rand_augment, color_jitter=color_jitter, erase=erase, validate_epochs=validate_epochs,
        linear_probe=linear_probe or None,
    )  # fmt: skip
    job = Job(
        model=model, data=data, recipe=chosen, out=out, validation=val, device=resolve_device(device),
        clip=find_clip(model, chosen, clip, frames=frames, stride=stride, size=size), workers=workers, seed=seed,
        init_from=init_from, pretrained=pretrained, annotator=annotator, deepspeed=deepspeed, offload=offload,
        monitors=tuple(monitor.split(",")) if monitor else (), checkpoint_activations=checkpoint_activations,
        deterministic=deterministic, resume=resume, keep=keep, save_steps=save_steps, skip_nan=skip_nan,
    )  # fmt: skip
    launch.run(job, launch.Machines(ranks=gpus, hostfile=hostfile, node_rank=node_rank, master=master))
