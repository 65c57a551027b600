"""The `explain` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..device import resolve_device
from .options import Raw


def explain(
    model: Annotated[str, typer.Argument(help="Address of the model, such as dualformer/t.")],
    video: Annotated[Path, typer.Argument(help="A video file.")],
    checkpoint: Annotated[Path, typer.Option(help="The model's weights, ours or the official release's.")],
    method: Annotated[str, typer.Option(help="gradcam, attention, hog (MaskFeat) or tokens (DualFormer).")] = "gradcam",
    to: Annotated[Path, typer.Option(help="File to write: .gif, .mp4 or .png.")] = Path("explanation.gif"),
    label: Annotated[
        str | None,
        typer.Option(help="gradcam: the class to explain, its name or number; the predicted one by default."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Index of the data trained on, for the names of the classes; a training folder knows them."),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="gradcam: another layer, a dotted path such as blocks.-2.")] = None,
    heads: Annotated[bool, typer.Option("--heads", help="attention: every head of the last layer, a panel each.")] = (
        False
    ),
    raw: Raw = False,
    device: Annotated[str | None, typer.Option(help="cuda or cpu; the GPU where there is one.")] = None,
) -> None:
    """Visualize what a checkpoint's prediction for a video is based on.

    `attention` shows class-token attention, as rollout over all layers and of the last one. Models without a class
    token (Video Swin, TPS, DualFormer) show the attention that each position receives in the last stage.

    Example: reelbench explain dualformer/t clip.mp4 --checkpoint dualformer_tiny.pth --to clip.gif
    """
    from .. import explain as explaining

    place = resolve_device(device)
    found = explaining.explain(
        model, video, to, checkpoint=checkpoint, data=data, raw=raw, device=place,
        method=explaining.Method(name=method, label=label, layer=layer, heads=heads),
    )  # fmt: skip
    print(f"{found.message}\n{' | '.join(found.panels)} -> {to}")
