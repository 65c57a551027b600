"""The `data` verbs of the command line: one short function each, imports inside the verb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ...errors import UserError
from ...spec import Decoder
from ..device import resolve_device
from ..training import job
from .options import DecoderOption, Device

if TYPE_CHECKING:
    from rich.status import Status

    from ...pipelines.index import Index
    from ..decoders.bench import Speed

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make, index and check data sets.")

IndexFile = Annotated[Path, typer.Argument(help="Index file.")]
Workers = Annotated[int, typer.Option(min=1, help="Reading processes.")]


@data.command("synth")
def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder to make the videos and their indexes in.")],
    codec: Annotated[str, typer.Option(help="vp9, vp8, h264, hevc, mpeg4, mjpeg or av1.")] = "vp9",
    hard: Annotated[bool, typer.Option("--hard", help="Pairs of motions, 16 classes, in longer videos.")] = False,
    train: Annotated[int | None, typer.Option(min=0, help="Training videos: 3200, with --hard 3840.")] = None,
    val: Annotated[int | None, typer.Option(min=0, help="Validation videos: 240, with --hard 480.")] = None,
    test: Annotated[int | None, typer.Option(min=0, help="Test videos: 400, with --hard 960.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
) -> None:
    """Make the synthetic data set: encoded videos whose class is a motion.

    Example: reelbench data synth clips --codec h264 --train 800
    """
    from ...pipelines import synthetic
    from ...pipelines.index import writable

    writable(out / "train.parquet")
    usual, film = (synthetic.HARD_VIDEOS, synthetic.HARD) if hard else (synthetic.VIDEOS, synthetic.EASY)
    asked = zip((train, val, test), usual, strict=True)
    a, b, c = (count if given is None else given for given, count in asked)
    for split, path in synthetic.make(out, videos=(a, b, c), film=replace(film, codec=codec, seed=seed)).items():
        print(f"{split:6} {path}")


@data.command("index")
def index_videos(
    name: Annotated[str, typer.Argument(help="Kind of data set, such as folder, csv or kinetics.")],
    root: Annotated[Path, typer.Argument(help="Its root folder (or its file of annotations).")],
    to: Annotated[Path | None, typer.Option(help="Index to write; ROOT/SPLIT.parquet by default.")] = None,
    split: Annotated[str, typer.Option(help="Split, where the data set has several.")] = "all",
) -> None:
    """Index a data set by a packet scan of each file, or where that does not tell its frames, by decoding it.

    Unreadable files are listed with the reason and skipped.

    Example: reelbench data index folder /data/my_videos --to my_videos.parquet
    """
    from ...pipelines import datasets
    from ...pipelines._video import SQUARE
    from ...pipelines.index import writable

    path = to or (root if root.is_dir() else root.parent) / f"{split}.parquet"
    if to is not None or root.exists():
        writable(path)
    made = datasets.build_index(name, root, split, report=print)
    for video, reason in made.skipped:
        print(f"skipped: {video}: {reason}")
    if not len(made):
        raise UserError(f"{root}: none of {made.listed} listed videos can be used, for the reasons above")
    made.save(path)
    if again := int(made.table.duplicated(["path", "offset", "frames"]).sum()):
        print(f"{again} of the videos are listed more than once, and count as often")
    if uneven := sum(aspect != SQUARE for aspect in made.table["pixel_aspect"]):
        print(f"{uneven} of the videos have pixels that are not square: they are shown as stored")
    if decoded := sum(len(packets) > 0 for packets in made.table["packets"]):
        print(f"{decoded} of the videos were decoded whole to be indexed: their times do not tell their frames")
    if changing := sum(made.table["changes"]):
        print(f"{changing} of the videos change in mid-stream: frames of another size are resampled to the first one's")
    counts = f"{len(made)} videos of {made.listed} listed, {len(made.skipped)} skipped"
    print(f"{counts}, {len(made.classes)} classes -> {path}")


@data.command("check")
def check_index(
    index: Annotated[Path, typer.Argument(help="Index file.")],
    deep: Annotated[bool, typer.Option("--deep", help="Decode every frame.")] = False,
) -> None:
    """Check that an index's files exist, complete and unchanged.

    Example: reelbench data check k400_val.parquet --deep
    """
    from ...pipelines import check

    found = check.check(index, deep=deep, report=lambda problem: print(f"{problem.path}: {problem.reason}"))
    print(f"{len(found)} problem{'s' * (len(found) != 1)}")
    raise typer.Exit(int(bool(found)))


@data.command("bench")
def bench_decoders(
    index: IndexFile,
    seconds: Annotated[float, typer.Option(min=0.5, help="Seconds of each measurement.")] = 10.0,
    workers: Workers = 2,
    device: Device = None,
    others: Annotated[bool, typer.Option("--rivals", help="Measure other libraries beside ours.")] = False,
) -> None:
    """Measure every decoder that can read an index, dense and sparse; the fastest is used from then on.

    With --rivals, the table also has those of torchcodec, PyNvVideoCodec and decord2 that are installed.

    Example: reelbench data bench k400_train.parquet --workers 8
    """
    from ...pipelines import _decoder_cache
    from ..decoders import bench, rivals

    videos, place = _load(index), resolve_device(device)
    print(SPEEDS, flush=True)
    with _status("measuring") as report:
        options = {
            "device": place, "workers": workers, "seconds": seconds, "report": report,
            "measured": lambda speed: report.print(_speed(speed)),
        }  # fmt: skip
        found = bench.bench(videos, **options)
        _, missing = rivals.bench(videos, **options) if others else ((), ())
    print(*missing, sep="\n", end="\n" * bool(missing))
    chosen = bench.recommend(found)
    _decoder_cache.remember(videos, place, chosen)
    for sampling, decoder in chosen.items():
        print(f"recommended for {sampling}: {decoder}; `decoder=auto` uses it from now on")


@data.command("transcode")
def transcode_videos(
    index: IndexFile,
    out: Annotated[Path, typer.Argument(help="Folder for the new files and their index.")],
    short_side: Annotated[int, typer.Option(help="Short side in pixels; smaller videos are not enlarged.")] = 256,
    gop: Annotated[int, typer.Option(help="Frames from one key frame to the next.")] = 16,
    codec: Annotated[str, typer.Option(help="h264, hevc, vp9, vp8 or av1.")] = "h264",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core by default.")] = None,
    device: Device = None,
) -> None:
    """Transcode a data set to decode faster, keeping labels and frame times; run it again to resume.

    The long side becomes a multiple of 16, as NVDEC prefers: up to 15 pixels are cropped, half on each side.

    Example: reelbench data transcode k400_train.parquet k400_256 --short-side 256 --gop 16
    """
    from ...pipelines import decoders, transcode
    from ..decoders import bench

    source, place = _load(index), resolve_device(device)
    made = transcode.transcode(index, out, short_side=short_side, gop=gop, codec=codec, workers=workers)
    for video, reason in made.skipped:
        print(f"skipped: {video}: {reason}")
    print(f"{len(made)} videos, {len(made.skipped)} skipped -> {out / index.name}")
    if not len(made):
        raise typer.Exit(1)
    with _status("measuring") as report:
        for sampling, clip in bench.CLIPS.items():
            rates = []
            for videos in (source, made):
                report(f"decoding, {sampling}")
                best = decoders(videos, place)[0]
                found = bench.speed(videos, sampling, best, device=place, workers=2, seconds=TRANSCODED_SECONDS)
                rates.append(found.clips.value)
            report.print(
                f"{sampling} {clip.frames}x{clip.stride}: {rates[0]:.1f} -> {rates[1]:.1f} clips/s, "
                f"{rates[1] / rates[0]:.2f} times as fast"
            )


TRANSCODED_SECONDS = 3.0


@data.command("certify")
def certify_decoders(
    index: IndexFile,
    videos: Annotated[int, typer.Option(min=1, help="Videos of each codec.")] = 8,
    model: Annotated[str | None, typer.Option(help="Address of a model whose accuracy is compared too.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Its weights.")] = None,
    workers: Workers = 2,
    device: Device = None,
) -> None:
    """Compare every decoder with the slow reference: the same frames, PSNR, colors, and a checkpoint's accuracy.

    Example: reelbench data certify k400_val.parquet --model video_swin/t --checkpoint swin_tiny.pth
    """
    from ..decoders import certify
    from ..training import saved_weights

    if (model is None) != (checkpoint is None):
        raise UserError("--model and --checkpoint go together: give both, or neither")
    loaded, place = _load(index), resolve_device(device)
    if checkpoint is not None:
        loaded.check_labels()
        saved_weights.check_classes(checkpoint, loaded.classes, index)
    weights = None if checkpoint is None else saved_weights.find(checkpoint)
    with _status("comparing") as report:
        found = certify.certify(loaded, device=place, videos=videos, workers=workers, report=report)
        charts = certify.certify_colors(loaded, device=place, workers=workers, report=report)
        verdicts = (
            certify.compare_accuracy(loaded, model, weights, device=place, workers=workers, report=report)
            if model is not None and weights is not None
            else ()
        )
    print(f"{'codec':8} {'decoder':9} {'videos':>6} {'frames right':>13} {'PSNR, worst':>11} {'median dB':>9}")
    for row in found:
        frames = f"{row.right}/{row.frames}"
        print(f"{row.codec:8} {row.decoder:9} {row.videos:6} {frames:>13} {row.psnr[0]:11.1f} {row.psnr[1]:9.1f}")
    for video, reason in dict.fromkeys(video for row in found for video in row.skipped):
        print(f"skipped: {video}: {reason}")
    for row in charts:
        print(f"colors of a chart, {row.codec}, {row.decoder}: {row.psnr[0]:.1f} dB")
    for verdict in verdicts:
        metric = {"top1": "top-1", "map": "mAP"}[verdict.metric]
        changed = f"{verdict.changed} of {verdict.videos} classified anew"
        print(f"{verdict.decoder:9} {metric} {verdict.value:.2f} %, {changed}")
    wrong = any(row.right < row.frames for row in found) or any(row.psnr[0] < certify.ALIKE for row in charts)
    raise typer.Exit(int(wrong or any(row.skipped or not row.videos for row in (*found, *charts))))


@data.command("show")
def show_clips(
    index: IndexFile,
    model: Annotated[str, typer.Option(help="Address of the model whose clips are shown.")],
    recipe: Annotated[str | None, typer.Option(help="One of its recipes, or a JSON file.")] = None,
    to: Annotated[Path, typer.Option(help="Image to write: .png, .svg or .pdf.")] = Path("clips.png"),
    videos: Annotated[int, typer.Option(min=1, max=64, help="Clips, one a row.")] = 8,
    epoch: Annotated[int, typer.Option(min=0, help="Epoch of the run.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    device: Device = None,
    workers: Workers = 2,
    decoder: DecoderOption = None,
) -> None:
    """Draw the clips that a model sees in training, with the recipe's crops, flips and augmentation.

    Example: reelbench data show k400_train.parquet --model tps/swin_t --recipe sthv2 --to clips.png
    """
    from ... import models
    from ...pipelines import SamplerState
    from ...pipelines.index import writable
    from ..explain import contact_sheet

    if to.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"{to}: name a .png, .svg or .pdf file")
    writable(to)
    chosen = job.find_recipe(model, recipe)
    clip = models.choose_clip(model, chosen)
    rows = contact_sheet.show(
        _load(index), chosen, clip, to, videos=videos, device=resolve_device(device),
        workers=workers, sampler=SamplerState(seed=seed, epoch=epoch), decoder=cast(Decoder, decoder or "auto"),
    )  # fmt: skip
    print(*rows, f"{len(rows)} clips -> {to}", sep="\n")


def _load(path: Path) -> Index:
    """Load an index. Raises UserError if it is empty."""
    from ...pipelines.index import Index

    index = Index.load(path)
    if not len(index):
        raise UserError(f"index {path}: holds no videos, {len(index.skipped)} were skipped: `reelbench data check` it")
    return index


@dataclass(frozen=True)
class _Line:
    """A status line: called with a text it shows that; `print` prints a line above it."""

    what: str
    status: Status

    def __call__(self, text: str) -> None:
        self.status.update(f"{self.what}: {text}")

    def print(self, text: str) -> None:
        self.status.stop()  # it would take what is printed to the standard error
        print(text, flush=True)
        self.status.start()


@contextmanager
def _status(what: str) -> Iterator[_Line]:
    """Show a status line on the terminal during the block."""
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield _Line(what, status)


SPEEDS = (
    f"{'sampling':9} {'decoder':14} {'threads':>7} {'clips/s':>8} {'95 % interval':>17} {'frames/s':>9} "
    f"{'decoded/kept':>12} {'cores':>6} {'memory':>10} {'NVDEC':>6} {'right':>6}"
)


def _speed(row: Speed) -> str:
    """Return a measurement as a row below `SPEEDS`."""
    low, high = row.clips.low, row.clips.high
    interval = f"[{low:.1f}, {high:.1f}]" if low is not None and high is not None else "too few"
    return (
        f"{row.sampling:9} {row.name:14} {row.threads or '':7} {row.clips.value:8.1f} {interval:>17} "
        f"{row.frames:9.0f} {row.decoded:12.2f} {row.cores:6.2f} {row.memory:6.0f} MiB "
        f"{'' if row.nvdec is None else f'{row.nvdec:.0f} %':>6} "
        f"{'' if row.same is None else '/'.join(map(str, row.same)):>6}"
    )
