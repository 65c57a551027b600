"""What a running case tells: its phase, and how far that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Event:
    """A phase such as `latency`, `done` of `total` where it counts anything; a `note` is printed once."""

    phase: str
    done: int = 0
    total: int | None = None
    note: str = ""


Report = Callable[[Event], None]
