"""The displays of a training, of a suite, and of whatever reports events (see `pipelines.progress`)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from ..metric_table import quantity
from ..pipelines.progress import Pace, bar, line
from ..result import Result
from ..spec import Case
from .events import Event, Report

if TYPE_CHECKING:
    from typing_extensions import Self


class _Display:
    """A progress bar on standard error, visible during the `with` block."""

    def __init__(self, *, visible: bool = True) -> None:
        self.console = Console(file=sys.stderr, quiet=not visible)
        self.bar = bar(self.console, "{task.fields[state]}")
        self.pace = Pace(self.console)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


class TrainingProgress(_Display):
    """A bar of optimizer steps with loss, clips/s and data-wait share; without a terminal a line every half minute.

    It starts at `done` of `total` steps. Nothing is shown unless `visible`.
    """

    def __init__(self, title: str, total: int, done: int, *, visible: bool) -> None:
        super().__init__(visible=visible)
        self.task = self.bar.add_task(title, total=total, completed=done, state="")
        self.total, self.done = total, done

    def advance(self, record: dict[str, float], batch: int) -> None:
        """Advance by one step and show its record (`loss`; `wait` and `compute` in seconds); `batch` is global."""
        self.done += 1
        seconds = record["wait"] + record["compute"]
        state = f"loss {record['loss']:.3f}  {batch / seconds:.0f} clips/s  waits {record['wait'] / seconds:.0%}"
        self.bar.update(self.task, advance=1, state=state)
        if self.pace.due():
            self.note(f"step {self.done}/{self.total}: {state}")

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self.bar.console.print(text, highlight=False)


@contextmanager
def reporting(title: str) -> Iterator[Report]:
    """Show the progress of what reports events, on standard error, during the block."""
    with _Display() as shown:
        task = shown.bar.add_task(title, total=None, state="")

        def report(event: Event) -> None:
            shown.bar.update(task, description=event.phase, completed=event.done, total=event.total)
            if event.done and event.total and shown.pace.due():
                line(shown.console, f"{event.phase}: {event.done} of {event.total}")

        yield report


class SuiteProgress(_Display):
    """A suite's display: a bar over the cases with the remaining time, and one for the running case's phase.

    The first starts at `done` of `total` cases, those finished by earlier runs.
    """

    def __init__(self, suite: str, total: int, done: int) -> None:
        super().__init__()
        self.suite = self.bar.add_task(f"suite {suite}", total=total, completed=done, state="")
        self.case = self.bar.add_task("", total=None, state="", visible=False)
        self.count, self.before, self.done = total, done, done
        self.begin = time.monotonic()
        if done:
            self.bar.console.print(f"{done} of {total} cases are already finished", highlight=False)

    def start(self, case: Case) -> None:
        """Show a case as running."""
        self.pace = Pace(self.console)
        self.bar.reset(self.case, description=case.label, total=None, state="starting", visible=True)
        if not self.console.is_terminal:
            self.console.print(f"{case.label} ({case.case_id}) …", highlight=False)

    def update(self, event: Event) -> None:
        """Show the running case's progress (without a terminal every half minute), and print a note if there is one."""
        if event.note:
            self.bar.console.print(event.note, highlight=False, soft_wrap=True)
        self.bar.update(self.case, completed=event.done, total=event.total or 1, state=event.phase)
        if event.done and event.total and self.pace.due():
            line(self.console, f"  {event.phase}: {event.done} of {event.total}")

    def finish(self, result: Result) -> None:
        """Print the finished case's line and advance the suite's bar."""
        self.done += 1
        self.bar.update(self.case, visible=False)
        self.bar.update(self.suite, advance=1)
        metrics = {n: m for n, m in result.metrics.items() if quantity(n).headline} or result.metrics
        shown = [f"{name} {m.value:.4g} {m.unit}".strip() for name, m in metrics.items()]
        text = ", ".join(shown) if result.status == "ok" else f"{result.status}: {result.error}"
        mark = "✓" if result.status == "ok" else "✗"
        line(self.console, f"{mark} {result.case.label}: {text} ({result.seconds:.0f} s; {self.status()})")

    def status(self) -> str:
        """Return how far the suite is: `4 of 26 cases, about 20 min left`, by what this run's cases took on average."""
        left, ended = self.count - self.done, self.done - self.before
        passed = time.monotonic() - self.begin
        more = f", about {duration(passed / ended * left)} left" if left and ended else ""
        return f"{self.done} of {self.count} cases{more}"


def duration(seconds: float) -> str:
    """Return a rough duration: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
