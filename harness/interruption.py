"""How a scheduler takes a machine back: by a signal, which training notes and heeds between two steps."""

from __future__ import annotations

import signal


class Interruption:
    """Notes SIGTERM and SIGUSR1, by which a scheduler takes a machine back; training then saves and ends."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.asked = True
