"""The `data` verbs of the command line: one short function each, imports inside the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make, index and check data sets.")


@data.command("synth")
def synthesise(
    out: Annotated[Path, typer.Argument(help="Folder to make the videos and their indexes in.")],
    codec: Annotated[str, typer.Option(help="vp9, vp8, h264, hevc, mpeg4, mjpeg or av1.")] = "vp9",
    train: Annotated[int, typer.Option(min=0, help="Training videos.")] = 1600,
    val: Annotated[int, typer.Option(min=0, help="Validation videos.")] = 240,
    test: Annotated[int, typer.Option(min=0, help="Test videos.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
) -> None:
    """Make encoded videos whose class is a motion.

    Example: reelbench data synth clips --codec h264 --train 800
    """
    from ..pipelines import synthetic

    for split, path in synthetic.make(out, videos=(train, val, test), codec=codec, seed=seed).items():
        print(f"{split:6} {path}")


@data.command("index")
def index_videos(
    name: Annotated[str, typer.Argument(help="Kind of data set, such as folder, csv or kinetics.")],
    root: Annotated[Path, typer.Argument(help="Its root folder (or its file of annotations).")],
    to: Annotated[Path | None, typer.Option(help="Index to write; ROOT/SPLIT.parquet by default.")] = None,
    split: Annotated[str, typer.Option(help="Split, where the data set has several.")] = "all",
) -> None:
    """Index a data set: one packet scan a file, unreadable files listed with their reason.

    Example: reelbench data index folder /data/my_videos --to my_videos.parquet
    """
    from ..pipelines import datasets

    made = datasets.build_index(name, root, split)
    path = to or (root if root.is_dir() else root.parent) / f"{split}.parquet"
    made.save(path)
    for video, reason in made.rejected:
        print(f"left out: {video}: {reason}")
    print(f"{len(made)} videos, {len(made.classes)} classes, {len(made.rejected)} left out -> {path}")


@data.command("check")
def check_index(
    index: Annotated[Path, typer.Argument(help="Index file.")],
    deep: Annotated[bool, typer.Option("--deep", help="Decode every frame.")] = False,
) -> None:
    """Check that an index's files are there, whole and unchanged.

    Example: reelbench data check k400_val.parquet --deep
    """
    from ..pipelines import check

    found = check.check(index, deep=deep)
    for problem in found:
        print(f"{problem.path}: {problem.reason}")
    print(f"{len(found)} problems")
    raise typer.Exit(int(bool(found)))
