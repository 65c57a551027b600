"""Load a suite by its name, or from a Python file that defines `SUITE = Suite(...)`."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from typing import Any

from ... import discover
from ...errors import UserError
from ...spec import Suite


def load(name: str, **changes: Any) -> Suite:
    """Return the suite of this name or in this .py file, which is executed, with other fields in all its cases.

    Of `changes` (fields of `Case`), those that are None change nothing. Raises UserError if there is no such suite, the
    file fails, or a change is none.
    """
    suite = _from_file(Path(name)) if name.endswith(".py") else _named(name)
    return with_changes(suite, **changes)


def with_changes(suite: Suite, **changes: Any) -> Suite:
    """Return the suite with other fields in all its cases. Those that are None change nothing."""
    changes = {name: value for name, value in changes.items() if value is not None}
    cases, more = (tuple(dataclasses.replace(c, **changes) for c in some) for some in (suite.cases, suite.on_cuda))
    ablations = tuple(
        {step: dataclasses.replace(c, **changes) for step, c in ablation.items()} for ablation in suite.ablations
    )
    return dataclasses.replace(suite, cases=cases, on_cuda=more, ablations=ablations)


def listing() -> dict[str, Suite]:
    """Return every suite by its name."""
    return {name: _named(name) for name in discover.names("suites")}


def _named(name: str) -> Suite:
    return discover.module("suites", name, "suite").SUITE


def _from_file(path: Path) -> Suite:
    if not path.exists():
        raise UserError(f"no suite file {path}: `reelbench suites` lists the named ones")
    try:
        values = runpy.run_path(str(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # the user's file may raise anything; report it in one line
        raise UserError(f"{path} does not import: {type(error).__name__}: {error}") from None
    suite = values.get("SUITE")
    if not isinstance(suite, Suite):
        raise UserError(f"{path} lacks SUITE: end it with SUITE = Suite(name=…, description=…, cases=(…))")
    return suite
