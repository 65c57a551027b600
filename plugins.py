"""Plug-ins: models, data sets, metrics, reports and suites from other packages and files, under our files' contracts.

A module with `VARIANTS` is a family of models, with `index` a data set, with `measure` a metric, with `render` a
report, with `SUITE` a suite; one module may be several of these. An installed package names them as entry points:

    [project.entry-points."reelbench.metrics"]
    jitter = "my_package.jitter"

A file, or a module, in the environment variable REELBENCH_PLUGINS (separated by colons) is called by its own name.
"""

from __future__ import annotations

import ast
import functools
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

from . import user_code
from .errors import UserError

VARIABLE = "REELBENCH_PLUGINS"


@dataclass(frozen=True)
class Group:
    """A group of entry points, and the name that a module of it must have."""

    name: str
    contract: str


GROUPS = {
    "models": Group("reelbench.models", "VARIANTS"),
    "pipelines.datasets": Group("reelbench.datasets", "index"),
    "harness.metrics": Group("reelbench.metrics", "measure"),
    "reports": Group("reelbench.reports", "render"),
    "suites": Group("reelbench.suites", "SUITE"),
}


@dataclass(frozen=True)
class Plugin:
    """A module from outside; `where` says from where, in messages."""

    name: str
    where: str
    place: str
    contract: str

    def load(self) -> ModuleType:
        """Import the module. Raises UserError, which names the plug-in, if it fails or lacks its contract."""
        try:
            module = user_code.load(self.place)
        except UserError as error:
            raise UserError(f"plug-in {self.name} ({self.where}): {error}") from None
        if not hasattr(module, self.contract):
            raise UserError(f"plug-in {self.name} ({self.where}) has no {self.contract}")
        return module


def find(package: str, own: list[str]) -> dict[str, Plugin]:
    """Return the plug-ins of a package of ours by name; `own` are the names of its files.

    None is imported. Raises UserError if two have the same name, or REELBENCH_PLUGINS names nothing.
    """
    if package not in GROUPS:
        return {}
    found: dict[str, Plugin] = {}
    for plugin in (*_installed(GROUPS[package]), *_named(GROUPS[package])):
        other = found[plugin.name].where if plugin.name in found else "reelbench" if plugin.name in own else None
        if other is not None and other != plugin.where:
            raise UserError(f"{package} has '{plugin.name}' twice: from {other} and from {plugin.where}: rename one")
        found[plugin.name] = plugin
    return found


def add(places: list[str]) -> None:
    """Add files or modules to REELBENCH_PLUGINS, for this process and those that it starts.

    Raises UserError if there is no such file or module.
    """
    absolute = [str(user_code.source(place)) if place.endswith(".py") else place for place in places]
    for place in absolute:
        user_code.source(place)
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*_places(), *absolute]))


def _places() -> list[str]:
    return [place for place in os.environ.get(VARIABLE, "").split(os.pathsep) if place]


@functools.cache  # reads the metadata of every package
def _installed(group: Group) -> list[Plugin]:
    return [
        Plugin(point.name, f"package {point.dist.name if point.dist else point.module}", point.value, group.contract)
        for point in metadata.entry_points(group=group.name)
    ]


def _named(group: Group) -> list[Plugin]:
    return [
        Plugin(name.replace("-", "_"), place, place, group.contract)
        for place in _places()
        if group.contract in _defined(user_code.source(place))
        for name in [Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]]
    ]


@functools.cache
def _defined(path: Path) -> frozenset[str]:
    """Return the names that a file defines at its top, without executing it."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise UserError(f"plug-in {path}: {error.msg} (line {error.lineno})") from None
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
    return frozenset(found)
