"""The child's end of the connection to the suite's process: sends JSON lines, and exits when the suite is gone."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from typing import TYPE_CHECKING

from ..events import Event
from ..lineage import end_with, parent_gone
from .process import Message

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Parent:
    """Sends messages on standard output; whatever libraries print is redirected to standard error, the case's log.

    Both hold for the whole process from the creation on, and so does the exit when the suite is gone: create it once.
    """

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        end_with(parent_gone())  # a suite killed with -9 cannot stop its case

    def report(self, event: Event) -> None:
        """Send a progress event."""
        self.send(event=dataclasses.asdict(event))

    def send(self, **message: Unpack[Message]) -> None:
        """Send one message as a JSON line; sets become sorted lists."""
        message["sent"] = time.monotonic()
        print(json.dumps(message, default=sorted), file=self._file, flush=True)
