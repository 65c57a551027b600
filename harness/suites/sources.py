"""The source files that a file's code comes from, read and not imported, and a hash of each."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = __name__.partition(".")[0]
FOLDERS = ("harness", "models", "pipelines", "reports", "suites")
MODULES = (  # named, as a user's own file may lie beside them in a clone
    "__init__", "ablation", "address", "cache", "discover", "errors", "intervals", "metric_table", "plugins", "power",
    "published", "result", "spec", "student", "user_code",
)  # fmt: skip
OURS = {*FOLDERS, *(f"{name}.py" for name in MODULES)}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
INTERFACES = ("models/__init__.py", "pipelines/__init__.py")  # what imports these names them, and all that they offer
DISPLAY = "pipelines/progress.py"  # says how far a loop is, and changes no number


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """Return a hash of each file by its path: of ours from the package's root on.

    Comments, docstrings and layout do not change it.
    """
    return {_name(path): _read(path, path.read_bytes())[0] for path in dict.fromkeys(paths)}


def closure(path: Path, allowed: tuple[str, ...]) -> list[Path]:
    """Return a file with all that it imports, directly or not: of ours what is in `allowed`, else what is beside it.

    `allowed` are beginnings of paths in this package. An installed module's imports count within its own package.
    """
    found: list[Path] = []
    todo = [path]
    while todo:
        file = todo.pop()
        if file not in found and (file == path or not _is_ours(file) or _within(file, allowed)):
            found.append(file)
            todo += _read(file, file.read_bytes())[1]
    return found


def digest(content: bytes) -> str:
    """Return the first 8 hexadecimal digits of the content's SHA-256."""
    return hashlib.sha256(content).hexdigest()[:8]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if _is_ours(path) else str(path)


def _is_ours(path: Path) -> bool:
    return path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in OURS


def _within(path: Path, allowed: tuple[str, ...]) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return name.startswith(allowed) and name not in (*INTERFACES, DISPLAY)


@functools.cache
def _read(path: Path, content: bytes) -> tuple[str, tuple[Path, ...]]:
    """Return the hash of a file's content, without what does not reach the interpreter, and the files it imports."""
    try:
        tree = ast.parse(content)
    except SyntaxError:  # importing it says so
        return digest(content), ()
    imported = tuple(file for module in _imports(tree, path) for file in _files(module))
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.Pass()
    return digest(ast.unparse(tree).encode()), imported


def _imports(tree: ast.AST, path: Path) -> Iterator[Path]:
    """Yield the places, without suffix, that a file's imports may mean, wherever in it they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (place for alias in node.names for place in _absolute(alias.name, path))
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            bases = [path.parents[node.level - 1] / module.replace(".", "/")] if node.level else _absolute(module, path)
            yield from (place for base in bases for place in (base, *(base / alias.name for alias in node.names)))


def _absolute(module: str, path: Path) -> list[Path]:
    """Return where an absolute import may lead: into this package, or beside the file or its topmost package."""
    top, _, rest = module.partition(".")
    if top == PACKAGE:
        return [ROOT / rest.replace(".", "/")]
    if _is_ours(path):
        return []
    root = path.parent
    while (root / "__init__.py").exists():
        root = root.parent
    installed = "site-packages" in root.parts and top != path.relative_to(root).parts[0]
    return [] if installed else [folder / module.replace(".", "/") for folder in dict.fromkeys((path.parent, root))]


def _files(place: Path) -> Iterator[Path]:
    yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())
