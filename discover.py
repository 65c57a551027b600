"""Find a module by name: `discover.module("suites", "quick", "suite")` imports reelbench/suites/quick.py.

There is no registry: the public files of a package are the known names; files like `_private.py` are not. An import
error in such a file propagates.
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
    """Import a module of a package by name; `kind` names it in messages. Raises UserError if the name is unknown."""
    if name not in names(package):
        raise unknown(kind, name, names(package))
    return importlib.import_module(f"{ROOT}.{package}.{name}")
