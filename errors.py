"""Errors that the user can fix: one line with the cause, similar names and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix. The command line prints it in one line, without a traceback, and exits with 2."""


class UnsupportedError(UserError):
    """A case that cannot run on this machine or without an input it lacks: its status becomes `unsupported`."""


INTERRUPTED = 130  # exit code after a Ctrl-C, as of a shell


class Stopped(SystemExit):
    """The end of a command that a signal stopped, and that has said how to go on."""


def printable(name: str) -> str:
    """Return a file's name with escapes for the bytes that are not UTF-8, which Python keeps as surrogates.

    >>> printable("caf\\udce9.mp4")
    'caf\\\\udce9.mp4'
    """
    return name.encode("utf-8", "backslashreplace").decode()


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return (not raise) the UserError for an unknown name, with similar names and the first 40 known ones.

    >>> print(unknown("suite", "quik", ["quick", "latency"]))
    unknown suite 'quik': did you mean 'quick'? Known: latency, quick
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    listed = ", ".join(names) if len(names) <= 40 else ", ".join(names[:40]) + ", …"
    return UserError(f"unknown {kind} '{name}':{hint} Known: {listed or 'none'}")
