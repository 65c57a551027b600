"""The verbs around a model's weights: `eval`, `convert`, `export`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from ...errors import UserError
from ...spec import Activation, Arithmetic, Clip, Decoder, read_json
from ..device import resolve_device
from .options import DecoderOption, Device, ModelOption, Raw, model_options


def evaluate(
    model: Annotated[str, typer.Argument(help="Address of the model, such as video_swin/t.")],
    data: Annotated[Path, typer.Option(help="Index of the test videos.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Its weights, ours or the official release's; of hf: models, their own.")
    ] = None,
    views: Annotated[str | None, typer.Option(help="Clips x crops, such as 4x3; the model's own by default.")] = None,
    dump: Annotated[
        Path | None, typer.Option(help="Write every video's scores: .parquet, .csv, .json, or .pkl as MMAction2's.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Videos at once.")] = 8,
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16, or amp_bf16: autocast.")] = "fp32",
    scores: Annotated[
        str | None,
        typer.Option(help="softmax or sigmoid; sigmoid for several labels a video, where MMAction2 takes softmax."),
    ] = None,
    raw: Raw = False,
    clip: Annotated[Path | None, typer.Option(help="JSON file of the clip, such as a training run's.")] = None,
    option: ModelOption = None,
    device: Device = None,
    gpus: Annotated[int, typer.Option(min=1, help="Ranks that share the videos (on a CPU: processes).")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Reading processes a rank.")] = 2,
    decoder: DecoderOption = None,
) -> None:
    """Test a checkpoint on an index under a multi-view protocol.

    Example: reelbench eval video_swin/t --checkpoint swin_tiny.pth --data k400_val.parquet --views 4x3
    """
    from ... import models
    from .. import eval
    from ..training import launch, launcher, rendezvous

    rendezvous.check(os.environ, gpus)
    if "RANK" in os.environ:
        launcher.end_with_starter()
    place = resolve_device(device)
    asked = eval.Evaluation(
        model=model, checkpoint=checkpoint, data=data, views=models.choose_views(model, views), device=place,
        clip=None if clip is None else read_json(Clip, clip), batch=batch, workers=workers, dump=dump,
        precision=cast(Arithmetic, precision), scores=cast(Activation | None, scores), raw=raw,
        options=model_options(model, option), decoder=cast(Decoder, decoder or "auto"),
    )  # fmt: skip
    if gpus > 1 and "RANK" not in os.environ:
        eval.check(asked)
        raise typer.Exit(launch.again(sys.argv[1:], ranks=gpus, device=place))
    found = eval.evaluate_checkpoint(asked)
    for name, metric in found.items():
        interval = f"  [{metric.low:.2f}, {metric.high:.2f}]" if metric.low is not None else ""
        print(f"{name:20} {metric.value:6.2f} {metric.unit}{interval}  ({metric.convention})")


def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint, ours or the official release's, or a run's folder.")],
    to: Annotated[Path, typer.Argument(help="File to write, .safetensors.")],
    model: Annotated[str, typer.Option(help="Address of the model, such as video_swin/t.")],
    num_classes: Annotated[int | None, typer.Option(help="Classes of its head; the checkpoint's by default.")] = None,
    raw: Raw = False,
    option: ModelOption = None,
    reparameterize: Annotated[bool, typer.Option(help="Fuse MobileOne's branches, for inference alone.")] = False,
) -> None:
    """Convert a checkpoint to safetensors with this package's parameter names; every weight must match.

    Example: reelbench convert swin_tiny_k400.pth swin_tiny_k400.safetensors --model video_swin/t
    """
    from ... import models
    from ...pipelines.index import writable
    from ..training import weights

    if to.suffix != ".safetensors":
        raise UserError(f"{to}: name a .safetensors file")
    writable(to)
    loaded = weights.restore(model, source, num_classes=num_classes, options=model_options(model, option), raw=raw)
    if reparameterize:
        models.reparameterize(loaded)
    models.save(loaded, to)
    print(f"{sum(p.numel() for p in loaded.parameters())} parameters -> {to}")


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint: a file, or a training run's checkpoints folder.")],
    out: Annotated[Path, typer.Argument(help="File to write: .safetensors, .pt2 (torch.export) or .onnx.")],
    model: Annotated[str, typer.Option(help="Address of the model, such as video_swin/t.")],
    clip: Annotated[Path | None, typer.Option(help="JSON file of the clip, such as a training run's.")] = None,
    raw: Raw = False,
    option: ModelOption = None,
) -> None:
    """Export a trained model (safetensors, torch.export, ONNX); its logits are checked against eager mode.

    Example: reelbench export runs/train/checkpoints swin.pt2 --model video_swin/t
    """
    from .. import export as exporter

    shape = None if clip is None else read_json(Clip, clip)
    print(exporter.export(model, checkpoint, out, shape, options=model_options(model, option), raw=raw))
