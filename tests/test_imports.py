"""The house's rules, checked by reading the code: who may import whom (see CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("harness", "models", "pipelines", "suites", "reports")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
VOCABULARY = {f"harness.{name}" for name in ("spec", "result", "errors", "discover", "statistics")}


def imports(path: Path, *, deferred: bool = True) -> set[str]:
    """Every module that a file imports, ours as `harness.spec`; without `deferred`, at import time only."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if deferred else _at_import(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= _from(path, node)
    return found


def _at_import(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _at_import(child)


def _from(path: Path, node: ast.ImportFrom) -> set[str]:
    if node.level == 0:
        return {node.module or ""}
    package = path.relative_to(ROOT).parent.parts
    base = package[: len(package) - (node.level - 1)]
    module = ".".join((*base, *(node.module or "").split("."))).strip(".")
    names = {f"{module}.{alias.name}".strip(".") for alias in node.names}
    return {name if _is_module(name) else module for name in names}


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def room(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def ours(modules: set[str]) -> set[str]:
    return {m for m in modules if m.split(".")[0] in FOLDERS}


@pytest.mark.parametrize("path", FILES, ids=room)
def test_data_flows_one_way(path: Path):
    used, folder = ours(imports(path)), path.relative_to(ROOT).parts[0]
    outside = {m for m in used if m.split(".")[0] != folder} - VOCABULARY
    if folder in ("models", "pipelines", "suites", "reports"):
        assert not outside, f"{room(path)} imports {outside}"
    elif not room(path).startswith("harness.cli") and room(path) not in VOCABULARY:
        strange = {m for m in outside if m.split(".")[0] in ("suites", "reports")}
        assert not strange, f"{room(path)} imports {strange}"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in VOCABULARY], ids=room)
def test_the_vocabulary_needs_the_standard_library_only(path: Path):
    for module in imports(path):
        top = module.split(".")[0]
        assert top in sys.stdlib_module_names or module in VOCABULARY, f"{room(path)} imports {module}"


@pytest.mark.parametrize(("library", "only"), [("nvidia.dali", "pipelines.dali"), ("deepspeed", "harness.engine")])
def test_a_library_stays_in_its_room(library: str, only: str):
    users = {room(p) for p in FILES if any(m == library or m.startswith(library + ".") for m in imports(p))}
    assert users == {only}


@pytest.mark.parametrize("folder", ["suites", "reports"])
def test_no_torch_where_a_laptop_has_none(folder: str):
    for path in (ROOT / folder).rglob("*.py"):
        assert not {m for m in imports(path) if m.split(".")[0] == "torch"}, room(path)


def test_the_command_line_imports_nothing_heavy():
    heavy = {"torch", "nvidia", "deepspeed", "pandas", "numpy", "av", "fvcore", "matplotlib", "torchmetrics"}
    for name in ("__init__", "harness/__init__", "harness/cli", "harness/job"):
        used = {m.split(".")[0] for m in imports(ROOT / f"{name}.py", deferred=False)}
        assert not used & heavy, name


def test_file_names_say_what_is_inside():
    assert not [p for p in FILES if p.stem in ("utils", "helpers", "common", "misc", "base")]


def test_every_file_can_be_discovered_or_is_machinery():
    from reelbench.harness import discover

    for folder in ("models", "suites", "reports", "harness.metrics", "pipelines.datasets"):
        for name in discover.names(folder):
            assert not name.startswith("_")
            discover.module(folder, name, "file")
