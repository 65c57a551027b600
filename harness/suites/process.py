"""The suite's end of the connection to a case's process: start it, read its JSON lines, enforce its limit, kill it."""

from __future__ import annotations

import contextlib
import json
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from ...result import MachineState, Status
from ..lineage import kill_descendants


class Round(TypedDict):
    """One round of an interleaved case: its metrics' fields, the machine's state, the seconds per phase."""

    metrics: dict[str, dict[str, Any]]
    machine: MachineState
    time_breakdown: dict[str, float]


class Message(TypedDict, total=False):
    """A message from a case's process: an `event` of progress, or finally its `result` as JSON.

    A worker sends `ready`, then each `round`, or the status it `failed` with and the `error`. `sent` is the time on the
    system's monotonic clock, in seconds: on a busy machine a message is read long after.
    """

    sent: float
    event: dict[str, Any]
    result: str
    ready: bool
    round: Round
    failed: Status
    error: str


class Child:
    """A subprocess of `python -m reelbench.harness.suites.MODULE`, with JSON lines over its stdin and stdout.

    Its stderr is appended to the log file.
    """

    def __init__(self, module: str, arguments: list[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, "-m", f"reelbench.harness.suites.{module}", *arguments]
        with log.open("ab") as file:
            self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file)
        self._buffer = b""
        self._complete: list[bytes] = []
        self._late = False

    def events(self, limit: float) -> Iterator[Message]:
        """Yield the child's messages until it closes its output, or `limit` seconds after the first was asked for.

        The end does not say which of the two (see `exit_status`), nor end the child (see `close`).
        """
        assert self.process.stdout is not None
        deadline = time.monotonic() + limit
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while self._complete or selector.select(timeout=max(0.0, deadline - time.monotonic())):
                if self._complete:
                    yield json.loads(self._complete.pop(0))
                    continue
                chunk = self.process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
                if not chunk:
                    return
                *self._complete, self._buffer = (self._buffer + chunk).split(b"\n")
            self._late = True

    def ask(self, limit: float, **message: Any) -> Message | None:
        """Send a message and return the child's next one; None if it has ended or takes longer than `limit` seconds."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        return next(self.events(limit), None)

    def exit_status(self, limit: float) -> tuple[Status, str]:
        """Return status and error of a child whose messages ended without the awaited one.

        A child that does not exit within 2 seconds gets the status `timeout`, as does one that ends well after the
        limit; `limit` is only named in its error.
        """
        try:
            code = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            code = None
        if code is None or (code == 0 and self._late):
            return "timeout", f"still running after its limit of {limit:.0f} s: raise time_limit, or see the log"
        if code == -signal.SIGKILL:
            return "oom", "killed by the system, most likely for memory: use a smaller batch, or see the log"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return "failed", f"the process ended with {name} before it had a result: see the log"

    def close(self) -> None:
        """Kill the child and everything it started."""
        kill_descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
