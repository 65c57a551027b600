"""A name to its module. Names are addresses: `discover.module("reelbench.suites", "quick", "suite")`.

There is no central list and no decorator: the files of a package are its names, `_private.py` is machinery.
A file that fails to import fails loudly.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from .errors import unknown

ROOT = __name__.rpartition(".")[0]


def names(package: str) -> list[str]:
    """Return the public module names of a package of ReelBench, such as `models` or `harness.metrics`."""
    found = importlib.import_module(f"{ROOT}.{package}")
    return sorted(m.name for m in pkgutil.iter_modules(found.__path__) if not m.name.startswith("_"))


def module(package: str, name: str, kind: str) -> ModuleType:
    """Import one module of a package by its name; an unknown name is a `UserError` with near names."""
    if name not in names(package):
        raise unknown(kind, name, names(package))
    return importlib.import_module(f"{ROOT}.{package}.{name}")
