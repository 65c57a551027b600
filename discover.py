"""Find a module by name: `discover.module("suites", "quick", "suite")` imports reelbench/suites/quick.py.

There is no registry: the public files of a package are the known names, and those of plug-ins; files like `_private.py`
are not. An import error in a file of ours propagates.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from . import plugins
from .errors import unknown

ROOT = __name__.rpartition(".")[0]


def names(package: str) -> list[str]:
    """Return the public module names of a package of ReelBench, such as `models` or `harness.metrics`, and plug-ins'.

    Raises UserError if a plug-in has the name of another module.
    """
    own = _own(package)
    return sorted({*own, *plugins.find(package, own)})


def added(package: str) -> list[str]:
    """Return the names that plug-ins add to a package of ReelBench. Raises UserError as `names` does."""
    return sorted(plugins.find(package, _own(package)))


def module(package: str, name: str, kind: str) -> ModuleType:
    """Import a module of a package by name; `kind` names it in messages.

    Raises UserError if the name is unknown, or that of a plug-in which fails.
    """
    own = _own(package)
    others = plugins.find(package, own)
    if name in own:
        return importlib.import_module(f"{ROOT}.{package}.{name}")
    if name not in others:
        raise unknown(kind, name, [*own, *others])
    return others[name].load()


def _own(package: str) -> list[str]:
    spec = importlib.util.find_spec(f"{ROOT}.{package}")  # not imported: some need torch
    places = spec.submodule_search_locations if spec else None
    return [m.name for m in pkgutil.iter_modules(places) if not m.name.startswith("_")]
