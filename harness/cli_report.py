"""Verbs that look closer at what was measured: `predictions`, `explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .errors import UserError, unknown


def predictions(
    sources: Annotated[list[Path], typer.Argument(help="Results folders, or files that `eval --dump` wrote.")],
    data: Annotated[Path | None, typer.Option(help="Index of the videos, for the names of the classes.")] = None,
    format: Annotated[str, typer.Option(help="terminal, markdown, or csv: one model's whole confusion matrix.")] = (
        "terminal"
    ),
) -> None:
    """Compare models video by video: paired tests, accuracy a class, confusions.

    Example: reelbench predictions runs/accuracy --data k400_val.parquet
    """
    from ..reports import _predictions, markdown, terminal

    if format not in ("terminal", "markdown", "csv"):
        raise unknown("format", format, ("terminal", "markdown", "csv"))
    models = [_predictions.read(path, name) for path, name in _files(sources)]
    classes = _classes(data) if data else ()
    if format == "csv":
        if len(models) != 1:
            raise UserError(f"--format csv writes one confusion matrix, here are {len(models)}: name one file")
        print(_predictions.matrix(models[0], classes), end="")
    elif format == "markdown":
        print("\n\n".join(markdown.table(table) for table in _predictions.tables(models, classes)))
    else:
        print(terminal.show(_predictions.tables(models, classes), title="ReelBench: predictions"))


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
    device: Annotated[str | None, typer.Option(help="cuda or cpu; the GPU where there is one.")] = None,
) -> None:
    """Show what a checkpoint looked at in one video.

    Attention is what the class token attended to, taken back through the layers (rollout) and in the last one. Models
    without a class token (Video Swin, TPS, DualFormer) show what every place of their last stage received from all.

    Example: reelbench explain dualformer/t clip.mp4 --checkpoint dualformer_tiny.pth --to clip.gif
    """
    from . import explain as explaining
    from . import job

    place = job.resolve_device(device)
    found = explaining.explain(
        model, video, to, checkpoint=checkpoint, data=data, method=method, label=label, layer=layer, heads=heads,
        device=place,
    )  # fmt: skip
    print(f"{found.said}\n{' | '.join(found.panels)} -> {to}")


def _files(sources: list[Path]) -> list[tuple[Path, str]]:
    """Return each file of predictions with the name to show: a case's model, or the file's own."""
    from . import ledger

    found: list[tuple[Path, str]] = []
    for source in sources:
        if not source.is_dir():
            found.append((source, source.stem))
            continue
        cases = {r.case_id: r.case.model for r in ledger.read(source)}
        files = sorted((source / "predictions").glob("*.parquet"))
        if not files:
            raise UserError(f"{source} holds no predictions: run a suite that measures accuracy there")
        found += [(file, cases.get(file.stem, file.stem)) for file in files]
    return found


def _classes(index: Path) -> tuple[str, ...]:
    from ..pipelines.index import Index

    return tuple(Index.load(index).classes)
