"""Plug-ins: a package with one of each kind, files of one's own, and what is said of those that fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reelbench import discover, models, plugins, reports
from reelbench.errors import UserError
from reelbench.harness.suites import ledger, load
from reelbench.metric_table import metric
from reelbench.reports import compare
from reelbench.spec import Case

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Write a file of one's own and name it as a plug-in."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        monkeypatch.setenv(plugins.VARIABLE, str(path))
        return path

    return write


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the example is installed in."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "plugin")  # a build leaves files
    line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", folder]
    subprocess.run([*line, source], check=True)
    return folder


@pytest.mark.slow  # installs a package, and measures cases in processes of their own
def test_an_installed_package_adds_one_of_each(installed, tmp_path, monkeypatch):
    environment = {**os.environ, "PYTHONPATH": str(installed), "REELBENCH_CACHE": str(tmp_path / "cache")}
    line = [sys.executable, "-m", "reelbench.harness.cli"]
    subprocess.run([*line, "run", "example", "--device", "cpu", "--out", tmp_path / "run"], check=True, env=environment)
    found = ledger.read(tmp_path / "run")  # without the plug-in: results of it can be read, compared and reported
    assert [result.case.model for result in found] == ["mean_color/linear", "tsm/micro"]
    assert all(result.metrics["jitter_ms"].value >= 0 for result in found)
    for kind in ("html", "csv", "markdown"):
        assert "jitter" in str(reports.render(found, kind))
    assert "jitter" in compare.render(found, found, width=200)
    line += ["report", str(tmp_path / "run"), "--format", "slack"]
    said = subprocess.run(line, check=True, env=environment, capture_output=True, text=True).stdout
    assert "*mean_color/linear* params" in said


def test_a_file_of_ones_own_is_found_by_what_it_defines(named):
    named("mine.py", "KIND = None\ndef measure(subject):\n    return {}\n")
    assert "mine" in discover.names("harness.metrics")
    assert "mine" not in discover.names("models")
    assert discover.module("harness.metrics", "mine", "metric").measure(None) == {}


def test_a_metric_without_a_row_needs_nothing(named):
    named("plain.py", "def measure(subject):\n    return {}\n")
    assert not metric("plain").needs_videos
    assert Case(model="tsm/micro", metrics=("plain",)).metrics == ("plain",)
    with pytest.raises(UserError, match="unknown metric 'plane': did you mean 'plain'"):
        Case(model="tsm/micro", metrics=("plane",))


def test_a_file_may_be_a_metric_and_the_suite_that_measures_it(named):
    suite = 'SUITE = Suite(name="own", description="", cases=(Case(model="tsm/micro", metrics=("own",)),))'
    path = named("own.py", f"from reelbench.spec import Case, Suite\ndef measure(subject): return {{}}\n{suite}\n")
    assert load.load(str(path)).cases[0].metrics == ("own",)


def test_a_model_of_a_file_is_built_by_its_name(named):
    named(
        "shades.py",
        (EXAMPLE / "reelbench_example" / "mean_color.py").read_text(),
    )
    assert models.build("shades/linear", num_classes=4).cls_head.out_features == 4


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("latency", "def measure(s): ...", "'latency' twice: from reelbench and from .*latency.py"),
        ("broken", "import nothing_like_it\ndef measure(s): ...", "plug-in broken .*does not import"),
        ("wrong", "def measure(s) ...", r"plug-in .*wrong.py: .* \(line 1\)"),
    ],
)
def test_a_plug_in_that_fails_is_named(named, name, text, said):
    named(f"{name}.py", text)
    with pytest.raises(UserError, match=said):
        discover.module("harness.metrics", name, "metric")


def test_only_what_needs_a_plug_in_fails_with_it(named):
    named("broken.py", "import nothing_like_it\ndef measure(subject): ...")
    assert "broken" in discover.names("harness.metrics")
    assert discover.module("harness.metrics", "latency", "metric").measure


def test_a_plug_in_that_is_not_there_is_told(reelbench, tmp_path):
    assert reelbench("--plugin", tmp_path / "none.py", "suites")[::2] == (2, f"reelbench: no file {tmp_path}/none.py\n")
    code, _, said = reelbench("--plugin", "no_such_module", "suites")
    assert (code, said.startswith("reelbench: Python finds no module no_such_module")) == (2, True)
