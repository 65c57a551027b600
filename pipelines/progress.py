"""How far a loop is, on standard error: a bar on a terminal, a plain line every half minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

QUIET_SECONDS = 30.0


class Pace:
    """Tells when a line is due: after half a minute without one, where the console is no terminal and shows no bar."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last = time.monotonic()

    def due(self) -> bool:
        """Return whether a line is due, which is then taken as printed."""
        if self.console.is_terminal or time.monotonic() - self.last <= QUIET_SECONDS:
            return False
        self.last = time.monotonic()
        return True


def bar(console: Console, *columns: str) -> Progress:
    """Return a progress bar in the common style: description, bar, count, elapsed, remaining, then further columns.

    The further `columns` are rich format strings, such as `{task.fields[state]}`. The bar is not shown without a
    terminal, and is erased when it stops.
    """
    parts: list[Any] = [TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn()]
    parts += [TimeElapsedColumn(), TimeRemainingColumn(), *(TextColumn(c) for c in columns)]
    return Progress(*parts, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def counting(title: str, total: int, *, visible: bool = True) -> Iterator[Callable[[int], None]]:
    """Show how far a loop over `total` things is, during the block: call what it yields with how many are done."""
    console = Console(file=sys.stderr, quiet=not visible)
    pace = Pace(console)
    with bar(console) as shown:
        task = shown.add_task(title, total=total)

        def tell(done: int) -> None:
            shown.update(task, completed=done)
            if pace.due():
                line(console, f"{title}: {done} of {total}")

        yield tell


def line(console: Console, text: str) -> None:
    """Print a line as it is, above the bars if any are shown."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
