"""Errors that are the user's to mend: one line that names the thing, the near names and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend. The command line prints its one line and exits with 2, no traceback."""


class UnsupportedError(UserError):
    """A case that this machine, or what it was given, cannot run: its row says `unsupported` and why."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that does not exist.

    >>> print(unknown("suite", "quik", ["quick", "latency"]))
    unknown suite 'quik': did you mean 'quick'? Known: latency, quick
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    shown = ", ".join(names) if len(names) <= 40 else ", ".join(names[:40]) + ", …"
    return UserError(f"unknown {kind} '{name}':{hint} Known: {shown or 'none'}")
