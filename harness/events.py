"""Progress events of a running case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Event:
    """Progress in a phase such as `latency`: `done` of `total` items (None: unknown). A `note` is printed as a line."""

    phase: str
    done: int = 0
    total: int | None = None
    note: str = ""


Report = Callable[[Event], None]
