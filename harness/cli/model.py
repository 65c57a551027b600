"""The verbs that ask one model something, without a suite or a data set: `time`, `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from ...errors import unknown
from ...spec import Arithmetic, Mode
from ..device import resolve_device
from .options import Device, ModelOption, Raw, model_options

Format = Annotated[str, typer.Option(help="text or json.")]


def time(
    model: Annotated[str, typer.Argument(help="Address of the model, such as video_swin/t or mine.py/net.")],
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a clip; the model's own by default.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Pixels of a clip's side.")] = None,
    batch: Annotated[int, typer.Option(min=0, help="Also measure throughput at this batch.")] = 0,
    precision: Annotated[str, typer.Option(help="fp32, tf32, bf16, fp16, amp_bf16, amp_fp16 or fp8.")] = "fp32",
    mode: Annotated[str, typer.Option(help="eager, compile, cuda_graphs, …: as a case's.")] = "eager",
    option: ModelOption = None,
    device: Device = None,
    format: Format = "text",
) -> None:
    """Measure one model on random clips: parameters, GFLOPs and latency with its 95 % interval.

    Example: reelbench time video_swin/t
    """
    check_format(format)
    from .. import time_model

    asked = time_model.Asked(
        model=model, frames=frames, size=size, batch=batch, device=resolve_device(device),
        precision=cast(Arithmetic, precision), mode=cast(Mode, mode), options=model_options(model, option),
    )  # fmt: skip
    found = time_model.time_model(asked)
    print(found.to_json() if format == "json" else found.to_text())


def predict(
    model: Annotated[str, typer.Argument(help="Address of the model, such as video_swin/t.")],
    files: Annotated[list[Path], typer.Argument(help="Video files.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Its weights, or a run's checkpoints folder; of hf: models, their own.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Index of the data trained on, for the names of the classes; a training folder knows them."),
    ] = None,
    views: Annotated[str | None, typer.Option(help="Clips x crops, such as 4x3; the model's own by default.")] = None,
    raw: Raw = False,
    option: ModelOption = None,
    device: Device = None,
    format: Format = "text",
) -> None:
    """Print the five most probable classes of each video file, scored as `eval` does; exit with 1 if one is unreadable.

    Example: reelbench predict video_swin/t clip.mp4 --checkpoint runs/train/best.safetensors
    """
    check_format(format)
    from ... import models
    from .. import predict as predicting

    asked = predicting.Asked(
        model=model, checkpoint=checkpoint, data=data, views=models.choose_views(model, views), raw=raw,
        device=resolve_device(device), options=model_options(model, option),
    )  # fmt: skip
    found = predicting.predict(asked, files)
    print(predicting.to_json(found) if format == "json" else predicting.to_text(found))
    raise typer.Exit(int(any(one.error for one in found)))


def check_format(format: str) -> None:
    """Raise UserError unless the format is `text` or `json`."""
    if format not in ("text", "json"):
        raise unknown("format", format, ("text", "json"))
