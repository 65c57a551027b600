"""The examples in docstrings give what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import reelbench

ROOT = Path(reelbench.__file__).parent
FOLDERS = ("harness", "models", "pipelines", "reports", "suites")
FILES = [*ROOT.glob("*.py"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]
WITH_EXAMPLES = sorted(str(file.relative_to(ROOT)) for file in FILES if ">>> " in file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", WITH_EXAMPLES)
def test_examples_give_what_they_show(file: str) -> None:
    # By the name that every other import has: pytest's own --doctest-modules would import each module a second time.
    module = importlib.import_module(".".join(("reelbench", *Path(file).with_suffix("").parts)))
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
