"""The house's rules, checked by reading the code: who may import whom (see CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("harness", "models", "pipelines", "suites", "reports")
FILES = sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])
VOCABULARY = {
    "ablation",
    "address",
    "cache",
    "spec",
    "result",
    "metric_table",
    "errors",
    "discover",
    "intervals",
    "plugins",
    "published",
    "power",
    "student",
    "user_code",
}

# From the lowest room to the highest: the rooms below that each may use, beside the vocabulary.
ROOMS: dict[str, set[str]] = {
    "models": set(),
    "pipelines": set(),
    "suites": set(),
    "reports": set(),
    "harness.device": set(),
    "harness.events": set(),
    "harness.progress": {"pipelines", "harness.events"},
    "harness.measuring": set(),
    "harness.lock": set(),
    "harness.lineage": set(),
    "harness.doctor": {"pipelines", "harness.measuring"},
    "harness.decoders": {"models", "pipelines", "harness.measuring"},
    "harness.metrics": {"harness.events", "harness.measuring"},
    "harness.training": {
        "models", "pipelines", "harness.progress", "harness.measuring", "harness.lock", "harness.lineage",
    },
    "harness.catalog": {"models", "pipelines", "harness.metrics"},
    "harness.listing": {"harness.catalog"},
    "harness.export": {"models", "pipelines", "harness.measuring", "harness.training"},
    "harness.dump": {"pipelines", "harness.measuring"},
    "harness.eval": {"models", "pipelines", "harness.measuring", "harness.training", "harness.dump"},
    "harness.explain": {"models", "pipelines", "harness.training"},
    "harness.predict": {"models", "pipelines", "harness.measuring", "harness.training", "harness.explain"},
    "harness.probe": {
        "models", "pipelines", "harness.events", "harness.progress", "harness.measuring", "harness.training",
    },
    "harness.suites": {
        "models", "pipelines", "harness.events", "harness.progress", "harness.measuring", "harness.metrics",
        "harness.training", "harness.lock", "harness.lineage", "harness.probe",
    },
    "harness.plan": {
        "models", "pipelines", "harness.measuring", "harness.metrics", "harness.training", "harness.suites",
    },
    "harness.results": {"reports", "harness.suites"},
    "harness.api": {
        "models", "pipelines", "harness.device", "harness.progress", "harness.training",
        "harness.metrics", "harness.eval", "harness.probe", "harness.suites", "harness.results",
    },
    "harness.time_model": {"models", "reports", "harness.measuring", "harness.suites", "harness.api"},
    "harness.pytest_plugin": {"models", "harness.device", "harness.measuring", "harness.suites"},
}  # fmt: skip
# The command line sees every room, and what a launcher starts in a rank is a command line too.
EVERYTHING = ("harness.cli", "harness.training.__main__")


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


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The room that a module is in: a file or a folder of the harness, else the folder at the root."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "harness" else parts[0]


def ours(modules: set[str]) -> set[str]:
    return {m for m in modules if m.split(".")[0] in FOLDERS}


def arrows() -> dict[str, set[str]]:
    """Every file of ours with the files of ours that it imports anywhere (the root: all it offers, when asked for)."""
    files = {module(path) for path in FILES}
    return {module(path): imports(path, deferred=module(path) != "") & files for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_room_uses_only_rooms_below(path: Path):
    name = module(path)
    if name.startswith(EVERYTHING) or not name:
        return
    others = {room(m) for m in ours(imports(path))} - {room(name), "harness"}
    allowed = set() if name in {*VOCABULARY, "harness"} else ROOMS[room(name)]
    assert others <= allowed, f"{name} imports {others - allowed}"


def test_rooms_stand_above_what_they_use():
    names = list(ROOMS)
    for place, below in enumerate(ROOMS.values()):
        assert below <= set(names[:place])
    used = {(room(a), room(b)) for a, bs in arrows().items() for b in bs if not a.startswith(EVERYTHING)}
    unused = {(a, b) for a, bs in ROOMS.items() for b in bs} - used
    assert not unused, f"allowed, but nobody does: {unused}"


def test_no_circle_of_files():
    left = arrows()
    while leaves := {a for a, bs in left.items() if not bs & (left.keys() - {a})}:
        left = {a: bs for a, bs in left.items() if a not in leaves}
    assert not left, f"these import each other: {sorted(left)}"


@pytest.mark.parametrize("path", [p for p in FILES if module(p) in VOCABULARY], ids=module)
def test_the_vocabulary_needs_the_standard_library_only(path: Path):
    for used in imports(path):
        top = used.split(".")[0]
        assert top in sys.stdlib_module_names or used in VOCABULARY, f"{path.name} imports {used}"


@pytest.mark.parametrize(
    ("library", "only"),
    [
        ("nvidia.dali", {"pipelines.dali"}),
        ("deepspeed", {"harness.training.engine", "harness.training.ds_config"}),  # which has it read a user's JSON
    ],
)
def test_a_library_stays_in_its_room(library: str, only: set[str]):
    users = {module(p) for p in FILES if any(m == library or m.startswith(library + ".") for m in imports(p))}
    assert users == only


@pytest.mark.parametrize("folder", ["suites", "reports"])
def test_no_torch_where_a_laptop_has_none(folder: str):
    for path in (ROOT / folder).rglob("*.py"):
        assert not {m for m in imports(path) if m.split(".")[0] == "torch"}, module(path)


def test_the_command_line_imports_nothing_heavy():
    heavy = {"torch", "nvidia", "deepspeed", "pandas", "numpy", "av", "fvcore", "matplotlib", "torchmetrics"}
    for name in (
        "__init__",
        "harness/__init__",
        *(f"harness/cli/{path.stem}" for path in (ROOT / "harness/cli").glob("*.py")),
    ):
        used = {m.split(".")[0] for m in imports(ROOT / f"{name}.py", deferred=False)}
        assert not used & heavy, name


def test_file_names_say_what_is_inside():
    assert not [p for p in FILES if p.stem in ("utils", "helpers", "common", "misc", "base")]


def test_every_file_can_be_discovered_or_is_machinery():
    from reelbench import discover

    for folder in ("models", "suites", "reports", "harness.metrics", "pipelines.datasets"):
        for name in discover.names(folder):
            assert not name.startswith("_")
            discover.module(folder, name, "file")
