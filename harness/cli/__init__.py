"""The command line: one short function per verb, with imports inside the verb, so that `--help` is instant.

A UserError is printed in one line, with exit code 2; a bug ends in a traceback.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from ... import plugins
from ...errors import INTERRUPTED, Stopped, UserError
from . import data, explain, inventory, model, report, suite, train, weights
from .verb import Verb

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(data.data, name="data")
app.command()(suite.run)
app.command("suites")(suite.list_suites)
app.command("train")(train.train)
app.command()(train.plan)
app.command("eval")(weights.evaluate)
app.command()(model.time)
app.command()(model.predict)
app.command()(weights.convert)
app.command()(weights.export)
app.command()(report.report)
app.command()(report.compare)
app.command()(report.predictions)
app.command()(explain.explain)
app.command("models")(inventory.list_models)
app.command()(inventory.doctor)
for verb in (*app.registered_commands, *data.data.registered_commands):
    verb.cls = Verb


@app.callback()
def reelbench(
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="A file or module with models, metrics, … of your own; also $REELBENCH_PLUGINS."),
    ] = None,
) -> None:
    """Compare video-recognition architectures: accuracy, FLOPs, memory, latency, throughput, energy."""
    plugins.add(plugin or [])


def run_command(function: Callable[..., None]) -> None:
    """Run a single verb as the whole command line, with `main`'s error handling; ends in SystemExit."""
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(cls=Verb)(function)
    _guard(single)


def main() -> None:
    """Run the `reelbench` command with the process's arguments; ends in SystemExit, with 2 for a UserError.

    A file's name that the terminal cannot show is shown with escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _guard(app)


def _guard(command: Callable[[], None]) -> None:
    try:
        command()
    except UserError as error:
        print(f"reelbench: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, Stopped) or (isinstance(end, SystemExit) and end.code != INTERRUPTED):
            raise  # all but what typer makes of a Ctrl-C
        print("reelbench: interrupted; finished work is kept, run the same command to go on", file=sys.stderr)
        sys.exit(INTERRUPTED)
