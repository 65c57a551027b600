"""The verbs that read results: `report`, `compare`, `predictions`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ...errors import UserError, unknown
from ...result import Result


def report(
    folders: Annotated[list[Path], typer.Argument(help="Results folders, or training runs.")],
    format: Annotated[
        str, typer.Option(help="terminal, markdown, csv, latex, paper, html, figure or benchmark.")
    ] = "terminal",
    to: Annotated[Path | None, typer.Option(help="File to write; html writes PNG and SVG beside it.")] = None,
    machine: Annotated[
        str | None, typer.Option(help="Only rows of the machines whose names contain this, such as H100.")
    ] = None,
    pivot: Annotated[
        str | None, typer.Option(help="A table of one number, such as latency_ms, with a column per machine.")
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(help="Data set of the published accuracies, such as sthv2; by default that of most cases."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Numbers to show in the table, such as top1,latency_ms,step_ms.")
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Dollars that the machine costs an hour; adds the cost of 1,000 videos.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every column in the terminal, and the published rows.")
    ] = False,
) -> None:
    """Write a report of results folders (of a case and machine the last row counts), or the curves of training runs.

    Example: reelbench report runs/quick --format html --to report.html
    """
    if to is not None:
        from ...pipelines.index import writable

        writable(to)
    from ...reports import _training
    from ..suites import ledger

    suites = [folder for folder in folders if (folder / ledger.FILE).exists() or not _training.find(folder)]
    runs = [run for folder in folders if folder not in suites for run in _training.find(folder)]
    if runs:
        _report_runs(runs, format, to.with_name(f"{to.stem}-training{to.suffix}") if suites and to else to)
    if suites:
        chosen = ("all",) if every else tuple(columns.split(",")) if columns else ()
        results = _chosen(suites, machine, published, price_per_hour)
        if pivot is not None:
            _write_text(_pivot(results, pivot, format), to)
        else:
            write_report(results, format, to, chosen)


def _chosen(
    folders: list[Path], machine: str | None, published: str | None, price_per_hour: float | None
) -> Sequence[Result]:
    """Return the results of folders: those of a machine, with one data set's published rows, with what they cost."""
    from ...reports import _machines, _price, _published
    from ..results import load_results

    results: Sequence[Result] = load_results(*folders)
    _tell_replaced(folders)
    if machine is not None:
        results = _machines.chosen(results, machine)
    if published is not None:
        results = _published.chosen(results, published)
    return results if price_per_hour is None else _price.priced(results, price_per_hour)


def _report_runs(folders: list[Path], format: str, to: Path | None) -> None:
    from ...reports import _training, _training_page

    for file in _training_page.write(_training.read(folders), format, to):
        print(f"curves: {file}")


def compare(
    a: Annotated[Path, typer.Argument(help="Results folder to compare with.")],
    b: Annotated[Path, typer.Argument(help="Results folder to judge.")],
    fail_if: Annotated[
        str | None,
        typer.Option(
            help="Such as slower:5%. Exit with 1 if that is so, with 0 if it surely is not, with 3 if these runs "
            "cannot decide it."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Ask about this metric only, such as latency_ms; give several.")
    ] = None,
) -> None:
    """Compare two results folders, metric by metric; `run --interleave --detect 5%` plans runs that show differences.

    Example: reelbench compare runs/before runs/after --metric latency_ms --fail-if slower:5%
    """
    from ...reports import compare as comparison
    from ...reports._gate import decide
    from ..results import load_results

    before, after = load_results(a).history, load_results(b).history
    decided = decide(before, after, fail_if, metric or ()) if fail_if else None
    print(comparison.render(before, after, metrics=metric or ()))
    if decided is None:
        return
    for line in decided.failing:
        print(f"--fail-if {fail_if}: {line}")
    for line in decided.undecided:
        print(f"undecided: {line}")
    raise typer.Exit(decided.code)


def predictions(
    sources: Annotated[list[Path], typer.Argument(help="Results folders, or files that `eval --dump` wrote.")],
    data: Annotated[Path | None, typer.Option(help="Index of the videos, for the names of the classes.")] = None,
    format: Annotated[str, typer.Option(help="terminal, markdown, or csv: one model's whole confusion matrix.")] = (
        "terminal"
    ),
) -> None:
    """Compare models video by video: paired tests, per-class accuracy, confusions.

    Example: reelbench predictions runs/accuracy --data k400_val.parquet
    """
    from ...reports import _predictions, markdown, terminal

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


def write_report(results: Sequence[Result], kind: str, to: Path | None, columns: Sequence[str] = ()) -> None:
    """Write a report to a file, or print it if `to` is None, with these `columns` (see `reports.render`).

    Raises UserError for an unknown format, or for a picture without a file.
    """
    from ... import reports

    if to is not None:
        reports.write(results, kind, to, columns=columns)
        return
    report = reports.render(results, kind, columns=columns)
    if isinstance(report, bytes):
        raise UserError(f"--format {kind} is a picture: name a file with --to")
    print(report)


def _tell_replaced(folders: Sequence[Path]) -> None:
    """Say how many cases an earlier folder has, too, from the same machine: only the last folder's rows are shown."""
    from ..suites import ledger

    if len(folders) == 1:
        return
    seen = [{(r.case_id, r.machine) for r in ledger.read(folder)} for folder in dict.fromkeys(folders)]
    replaced = sum(map(len, seen)) - len(set().union(*seen))
    if replaced:
        print(
            f"{replaced} rows are of a case and machine that a later folder has too, whose rows are shown: see both "
            "with `reelbench compare`",
            file=sys.stderr,
        )


def _pivot(results: Sequence[Result], name: str, format: str) -> str:
    from ...reports import _machines, csv, latex, markdown, terminal

    table = _machines.pivot(results, name)
    formats = {
        "terminal": lambda: terminal.show([table], title="ReelBench"),
        "markdown": lambda: markdown.table(table) + "\n",
        "latex": lambda: latex.table(table, "ReelBench"),
        "csv": lambda: csv.table(table),
    }
    if format not in formats:
        raise unknown("format of a pivot table", format, formats)
    return formats[format]()


def _write_text(text: str, to: Path | None) -> None:
    if to is None:
        print(text, end="")
    else:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text)


def _files(sources: list[Path]) -> list[tuple[Path, str]]:
    """Return each predictions file with its display name: the case's model, or the file's stem."""
    from ..suites import ledger

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
    from ...pipelines.index import Index

    return tuple(Index.load(index).classes)
