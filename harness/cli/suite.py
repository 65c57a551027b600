"""The verbs around suites: `run` and `suites`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ...errors import UserError
from ...result import Result
from ..device import resolve_device
from .options import DecoderOption, Device, Out
from .report import write_report


def run(
    suite: Annotated[str, typer.Argument(help="Name of a suite, or a Python file that holds SUITE.")],
    out: Out = Path("runs/latest"),
    device: Device = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run the models that match this pattern, such as 'tsm/*'; give several.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Another data set for every case: an index, or a folder.")] = None,
    decoder: DecoderOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure finished cases again.")] = False,
    keep_stale: Annotated[
        bool, typer.Option("--keep-stale", help="Keep results of other code or versions, marked as such.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be measured, why, and how long it took before.")
    ] = False,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Time the cases round-robin: clock drift affects all of them equally.")
    ] = False,
    rounds: Annotated[
        int | None, typer.Option(min=2, help="Rounds of --interleave, or the most of --detect; by default 8, or 64.")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the report in a browser, once there is something.")
    ] = False,
    detect: Annotated[
        str | None,
        typer.Option(help="Take as many rounds as show a difference of this size between two such runs, such as 5%."),
    ] = None,
) -> None:
    """Run a suite, resuming what is unfinished or measured by other code, and write its report.

    Example: reelbench run quick --out runs/quick
    """
    from ... import reports
    from ..results import paired
    from ..suites import load as suites
    from ..suites import sweep

    difference = _percentage(detect) if detect else 0.0
    asked = rounds or (8 if interleave and not detect else 0)
    chosen = suites.load(suite, data=data, decoder=decoder)
    if dry_run:
        from ..suites.dry_run import describe

        place = resolve_device(device)
        print(describe(chosen, out, device=place, only=only or (), fresh=fresh, keep_stale=keep_stale))
        return
    page = Page(out / "report.html", open_)

    def live(found: list[Result], status: str) -> None:
        reports.write(paired(found, out), "html", page.path, status=status)
        page.show()

    results, measured = sweep.sweep(
        chosen, out, device=resolve_device(device), only=only or (), fresh=fresh, keep_stale=keep_stale,
        rounds=asked if interleave or detect else 0, detect=difference, live=live,
    )  # fmt: skip
    results = paired(results, out)
    write_report(results, "terminal", None)
    for kind, suffix in (("html", "html"), ("markdown", "md"), ("csv", "csv"), ("latex", "tex")):
        write_report(results, kind, out / f"report.{suffix}")
    print(f"report: {page.path}")
    page.show()
    print(reports.time_breakdown(measured))
    if any(result.status != "ok" for result in results):
        raise typer.Exit(1)


class Page:
    """A report's page, opened in the desktop's browser once, if that is `asked` for."""

    def __init__(self, path: Path, asked: bool) -> None:
        self.path, self.pending = path, asked

    def show(self) -> None:
        """Open the page, unless it was opened before. A browser within the terminal would hide the run."""
        if not self.pending:
            return
        import webbrowser

        self.pending = False
        try:
            browser = webbrowser.get()
        except webbrowser.Error:
            browser = None
        if (
            browser is None
            or type(browser) is webbrowser.GenericBrowser
            or not browser.open(self.path.resolve().as_uri())
        ):
            print(f"--open: no browser was found: open {self.path}", file=sys.stderr)


def _percentage(text: str) -> float:
    """Return `5%` or `5` as 0.05. Raises UserError if it is no percentage above 0."""
    try:
        found = float(text.removesuffix("%")) / 100
    except ValueError:
        found = 0.0
    if not found > 0:
        raise UserError(f"--detect '{text}': give a percentage, such as 5%")
    return found


def list_suites() -> None:
    """List the suites.

    Example: reelbench suites
    """
    from ..suites import load

    for name, found in load.listing().items():
        more = f" (on a GPU {len(found.on('cuda'))})" if found.on_cuda else ""
        print(f"{name:12} {len(found.on('cpu')):3} cases  {found.description}{more}")
