"""The command line: one short function a verb, imports inside the verb, so that `--help` is instant.

A mistake of the user's ends in one line and exit code 2; a bug ends in a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from . import cli_data, cli_report, job
from .errors import UserError
from .result import Result
from .spec import Clip

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(cli_data.data, name="data")
app.command("train")(job.train)
app.command("predictions")(cli_report.predictions)
app.command("explain")(cli_report.explain)

Out = Annotated[Path, typer.Option(help="Results folder.")]
Device = Annotated[str | None, typer.Option(help="cuda or cpu; the GPU where there is one.")]


@app.callback()
def reelbench() -> None:
    """Compare video-recognition architectures: accuracy, FLOPs, memory, latency, throughput, energy."""


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="Name of a suite, or a Python file that holds SUITE.")],
    out: Out = Path("runs/latest"),
    device: Device = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run the models that match this pattern, such as 'tsm/*'; give several.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Another data set for every case: an index, or a folder.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure finished cases again.")] = False,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Time all cases in turns, round after round: drift hits all alike.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds of --interleave.")] = 8,
) -> None:
    """Run a suite, resuming what is unfinished, and write its report.

    Example: reelbench run quick --out runs/quick
    """
    from .. import reports
    from . import suite as suites
    from . import sweep

    chosen = suites.load(suite, data)
    results, measured = sweep.sweep(
        chosen, out, device=job.resolve_device(device), only=only or (), fresh=fresh, rounds=interleave * rounds
    )
    _report(results, "terminal", None)
    for kind, suffix in (("html", "html"), ("markdown", "md"), ("csv", "csv"), ("latex", "tex")):
        _report(results, kind, out / f"report.{suffix}")
    print(f"report: {out / 'report.html'}")
    print(reports.spent(measured))
    if any(result.status != "ok" for result in results):
        raise typer.Exit(1)


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="Address of the model, such as video_swin/t.")],
    checkpoint: Annotated[Path, typer.Option(help="Its weights, ours or the official release's.")],
    data: Annotated[Path, typer.Option(help="Index of the test videos.")],
    views: Annotated[str | None, typer.Option(help="Clips x crops, such as 4x3; the model's own by default.")] = None,
    dump: Annotated[Path | None, typer.Option(help="Write every video's scores to this parquet file.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Videos at once.")] = 8,
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16, or amp_bf16: autocast.")] = "fp32",
    clip: Annotated[Path | None, typer.Option(help="JSON file of the clip, such as a training run's.")] = None,
    device: Device = None,
    gpus: Annotated[int, typer.Option(min=1, help="Ranks that share the videos (on a CPU: processes).")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Reading processes a rank.")] = 2,
) -> None:
    """Test a checkpoint on an index under a protocol of views.

    Example: reelbench eval video_swin/t --checkpoint swin_tiny.pth --data k400_val.parquet --views 4x3
    """
    place = job.resolve_device(device)
    if gpus > 1 and "RANK" not in os.environ:
        from . import launch

        raise typer.Exit(launch.again(sys.argv[1:], ranks=gpus, device=place))
    from . import testing

    shape = None if clip is None else job.read_json(Clip, clip)
    found = testing.test(model, checkpoint, data, views, place, precision, batch, workers, dump, shape)
    for name, metric in found.items():
        interval = f"  [{metric.low:.2f}, {metric.high:.2f}]" if metric.low is not None else ""
        print(f"{name:20} {metric.value:6.2f} {metric.unit}{interval}  ({metric.convention})")


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Results folders.")],
    format: Annotated[
        str, typer.Option(help="terminal, markdown, csv, latex, paper, html, figure or benchmark.")
    ] = "terminal",
    to: Annotated[Path | None, typer.Option(help="File to write; html writes PNG and SVG beside it.")] = None,
) -> None:
    """Write a report of one or more results folders.

    Example: reelbench report runs/quick --format html --to report.html
    """
    newest = {result.case_id: result for folder in folders for result in _ledger(folder)}
    _report(list(newest.values()), format, to)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Results folder to compare with.")],
    b: Annotated[Path, typer.Argument(help="Results folder to judge.")],
    fail_if: Annotated[
        str | None, typer.Option(help="Exit with 1 on a real difference of that kind and size, such as slower:5%.")
    ] = None,
) -> None:
    """Compare two results folders, metric by metric; repeat runs with `run --fresh` to see small differences.

    Example: reelbench compare runs/before runs/after --fail-if slower:5%
    """
    from ..reports import compare as comparison

    before, after = _ledger(a), _ledger(b)
    wrong = comparison.failing(before, after, fail_if) if fail_if else []
    print(comparison.render(before, after))
    for line in wrong:
        print(f"--fail-if {fail_if}: {line}")
    raise typer.Exit(int(bool(wrong)))


@app.command("models")
def list_models(
    format: Annotated[str, typer.Option(help="table or json.")] = "table",
) -> None:
    """List every architecture with its input and published figures.

    Example: reelbench models --format json
    """
    from . import catalogue

    print(catalogue.render(format))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint, ours or the official release's.")],
    to: Annotated[Path, typer.Argument(help="File to write, .safetensors.")],
    model: Annotated[str, typer.Option(help="Address of the model, such as video_swin/t.")],
    num_classes: Annotated[
        int | None, typer.Option(help="Classes of its head; the published number by default.")
    ] = None,
) -> None:
    """Read a checkpoint strictly and write its weights as safetensors, in our naming.

    Example: reelbench convert swin_tiny_k400.pth swin_tiny_k400.safetensors --model video_swin/t
    """
    from safetensors.torch import save_model

    from .. import models

    if to.suffix != ".safetensors":
        raise UserError(f"{to}: name a .safetensors file")
    loaded = models.build(model, num_classes=num_classes, checkpoint=source)
    save_model(loaded, str(to))
    print(f"{sum(p.numel() for p in loaded.parameters())} parameters -> {to}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint: a file, or a training run's checkpoints folder.")],
    out: Annotated[Path, typer.Argument(help="File to write: .safetensors, .pt2 (torch.export) or .onnx.")],
    model: Annotated[str, typer.Option(help="Address of the model, such as video_swin/t.")],
    clip: Annotated[Path | None, typer.Option(help="JSON file of the clip, such as a training run's.")] = None,
) -> None:
    """Write a trained model for use elsewhere, checked against the model itself.

    Example: reelbench export runs/train/checkpoints swin.pt2 --model video_swin/t
    """
    from . import export as exporter

    print(exporter.export(model, checkpoint, out, None if clip is None else job.read_json(Clip, clip)))


@app.command("suites")
def list_suites() -> None:
    """List the suites.

    Example: reelbench suites
    """
    from . import suite

    for name, found in suite.listing().items():
        more = f" (on a GPU {len(found.on('cuda'))})" if found.on_cuda else ""
        print(f"{name:12} {len(found.cases):3} cases  {found.description}{more}")


@app.command()
def doctor() -> None:
    """Check this machine: what is missing, and what to do about it.

    Example: reelbench doctor
    """
    from . import environment

    for name, value in environment.collect().items():
        print(f"{name:16} {value}")
    broken = False
    for check in environment.checks():
        mark = "ok" if check.ok else "MISSING" if check.needed else "none"
        print(f"{check.name:16} {mark:8} {check.found}" + ("" if check.ok else f"  -> {check.remedy}"))
        broken |= check.needed and not check.ok
    raise typer.Exit(int(broken))


def _ledger(folder: Path) -> list[Result]:
    from . import ledger

    if not (folder / ledger.FILE).exists():
        raise UserError(f"{folder} holds no {ledger.FILE}: make it with `reelbench run SUITE --out {folder}`")
    return ledger.read_all(folder)


def _report(results: list[Result], kind: str, to: Path | None) -> None:
    from .. import reports

    if to is not None:
        reports.write(results, kind, to)
    else:
        print(reports.render(results, kind))


def run_command(function: Callable[..., None]) -> None:
    """Run one function as a whole command line, its mistakes told in one line."""
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command()(function)
    _guard(single)


def main() -> None:
    """Run the `reelbench` command."""
    _guard(app)


INTERRUPTED = 130


def _guard(command: Callable[[], None]) -> None:
    try:
        command()
    except UserError as error:
        print(f"reelbench: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:  # which is what typer makes of a Ctrl-C
            raise
        print("reelbench: interrupted; finished work is kept, run the same command to go on", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
