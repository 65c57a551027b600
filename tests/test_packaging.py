"""What a wheel brings, and that the versions of the tools are said once."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import reelbench
import yaml

if sys.version_info < (3, 11):
    pytest.skip("reads pyproject.toml by the standard library's tomllib", allow_module_level=True)
import tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PACKAGES = ("harness", "models", "pipelines", "reports", "suites")
# The package whose program a hook starts, where it is not called like the program.
OF_PROGRAM = dict.fromkeys(
    ("end-of-file-fixer", "trailing-whitespace-fixer", "check-added-large-files"), "pre-commit-hooks"
)


def hooks() -> list[dict[str, Any]]:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    return repositories[0]["hooks"]


def test_a_wheel_has_every_package_and_says_that_it_is_typed() -> None:
    made = {file.parent.relative_to(ROOT) for folder in PACKAGES for file in (ROOT / folder).rglob("__init__.py")}
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert set(listed) == {"reelbench", *(".".join(("reelbench", *folder.parts)) for folder in made)}
    files = PROJECT["tool"]["setuptools"]["package-data"]
    assert "py.typed" in files["reelbench"]
    assert (ROOT / "py.typed").exists()


def test_hooks_start_what_constraints_pin() -> None:
    dev = {re.split(r"[><=]", wanted)[0] for wanted in PROJECT["project"]["optional-dependencies"]["dev"]}
    for hook in hooks():
        folder, _, program = hook["entry"].split()[0].rpartition("/")
        package = OF_PROGRAM.get(program, program)
        assert (folder, hook["language"]) == (".venv/bin", "system"), hook
        assert package in dev
        assert re.search(rf"^{package}==", CONSTRAINTS, re.MULTILINE), f"{package} is not pinned"


def test_libraries_whose_insides_are_used_have_an_upper_bound() -> None:
    wanted = {re.split(r"[><=]", text)[0]: text for text in PROJECT["project"]["dependencies"]}
    for library in ("deepspeed", "nvidia-dali-cuda130"):
        assert "<" in wanted[library], wanted[library]
        pinned = re.search(rf"^{library}==(\S+)", CONSTRAINTS, re.MULTILINE)
        bound = wanted[library].partition("<")[2]
        assert pinned is not None
        assert [int(part) for part in pinned[1].split(".")[:2]] < [int(part) for part in bound.split(".")]


def test_every_python_that_is_supported_is_tested() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    tested = jobs["test"]["strategy"]["matrix"]["python"]
    sign = "Programming Language :: Python :: "
    stated = [text.removeprefix(sign) for text in PROJECT["project"]["classifiers"] if text.startswith(f"{sign}3.")]
    assert tested == stated
    assert PROJECT["project"]["requires-python"] == f">={tested[0]}"
    assert jobs["test"]["steps"][-1]["run"] == ".ci/run"


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == reelbench.__version__
    assert citation["license"] == PROJECT["project"]["license"]
