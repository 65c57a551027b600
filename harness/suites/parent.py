"""The other end of a case's process: it speaks JSON lines to the suite that started it, and ends when that is gone."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from typing import TYPE_CHECKING

from ..events import Event
from .process import Message, kill_descendants

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Parent:
    """Keeps standard output for messages; everything that libraries print goes to standard error, the case's log."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._end_with(os.getppid())

    def report(self, event: Event) -> None:
        """Tell how far the case is."""
        self.send(event=dataclasses.asdict(event))

    def send(self, **message: Unpack[Message]) -> None:
        """Send one message; sets travel as sorted lists."""
        print(json.dumps(message, default=sorted), file=self._file, flush=True)

    @staticmethod
    def _end_with(parent: int) -> None:
        """A suite killed with -9 cannot stop its case: the case watches for it and takes its own children along."""

        def watch() -> None:
            while os.getppid() == parent:
                time.sleep(1)
            kill_descendants(os.getpid())
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
