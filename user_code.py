"""A user's own code: the module in a Python file, or one that Python finds by its name."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.util
import sys
import traceback
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from .errors import UserError


def load(place: str) -> ModuleType:
    """Import a file (a path that ends in .py) or a module, which is executed once a process.

    A file sees the modules beside it, unless installed ones have their names. Raises UserError if there is none, or it
    fails.
    """
    if place.endswith(".py"):
        return _execute(Path(place).expanduser().absolute())
    _see_working_directory()
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            raise _no_module(error.name) from None
        raise UserError(f"{place} does not import: {reason(error)}") from None
    except Exception as error:  # the user's code may raise anything; it is said in one line
        raise UserError(f"{place} does not import: {reason(error)}") from None


def source(place: str) -> Path:
    """Return the file of a file or module, which is not executed. Raises UserError if there is none."""
    if place.endswith(".py"):
        path = Path(place).expanduser().absolute()
        if not path.is_file():
            raise _no_file(path)
        return path
    try:
        found = find_spec(place)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None:
        raise _no_module(place)
    return Path(found.origin)


def find_spec(module: str) -> ModuleSpec | None:
    """Return where Python finds a module, also in the working directory; None if nowhere. Its parents are imported."""
    _see_working_directory()
    return importlib.util.find_spec(module)


def reason(error: BaseException) -> str:
    """Return an error in one line, with the place where it was raised."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, SyntaxError) or not (frames := traceback.extract_tb(error.__traceback__)):
        return f"{type(error).__name__}: {text}"
    return f"{type(error).__name__}: {text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _see_working_directory() -> None:
    """Let Python find modules there, as `python -m` does, and so the processes that measure and train."""
    if "" not in sys.path:
        sys.path.insert(0, "")


@functools.cache
def _execute(path: Path) -> ModuleType:
    if not path.is_file():
        raise _no_file(path)
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:  # it is being executed, and names itself: a suite beside its own metric
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file may raise anything; it is said in one line
        del sys.modules[name]
        raise UserError(f"{path} does not import: {reason(error)}") from None
    return module


def _no_module(name: str) -> UserError:
    return UserError(f"Python finds no module {name}, here or on its path: install it, or name a file, path/mine.py")


def _no_file(path: Path) -> UserError:
    near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.py")], cutoff=0.5)
    return UserError(f"no file {path}" + (f": did you mean {' or '.join(near)}?" if near else ""))
