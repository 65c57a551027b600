"""The catalogue's cost, counted without computing, is the one that a report measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reelbench import models, plugins
from reelbench.errors import UserError
from reelbench.harness import catalog, listing
from reelbench.harness.metrics import flops

MEAN_COLOR = Path(__file__).parents[1] / "examples" / "plugin" / "reelbench_example" / "mean_color.py"
MICROS = [name for name in models.names() if name.endswith("/micro")]


@pytest.mark.parametrize("name", MICROS)
def test_the_cost_is_what_fvcore_counts(name: str) -> None:
    clip = models.find(name).clip
    view = torch.rand(1, 3, clip.frames, clip.size, clip.size)
    model = models.build(name).eval()
    measured, _ = flops.count(model, view)
    assert catalog.gflops(model.to("meta"), view.to("meta")) == pytest.approx(measured / 1e9, rel=1e-4)


SHIPPED = json.loads(listing.SHIPPED.read_text(encoding="utf-8"))


def test_the_counts_that_come_with_the_package_are_of_this_code() -> None:
    assert SHIPPED["of"] == listing.fingerprint(), "the models' code has changed: make catalog"
    rows = {row["model"]: row for row in SHIPPED["rows"]}
    assert list(rows) == list(models.names())
    assert rows["video_swin/t"]["gflops_view"] == pytest.approx(87.9, rel=0.01)  # as the paper prints it
    assert rows["timesformer/b"]["gflops_view"] == pytest.approx(196, rel=0.01)
    assert all(row["gflops_view"] > 0 and row["params"] > 0 for row in rows.values())
    assert rows["tsm/micro"] == json.loads(json.dumps(catalog.row("tsm/micro")))
    assert rows["mvit/micro"] == json.loads(json.dumps(catalog.row("mvit/micro")))


@pytest.mark.exhaustive  # builds and counts the whole zoo
def test_the_counts_that_come_with_the_package_are_counted_again() -> None:
    assert SHIPPED["rows"] == json.loads(json.dumps(catalog.rows()))


def test_releases_have_addresses() -> None:
    published = [figures for row in SHIPPED["rows"] for figures in row["published"]]
    of_repositories = [figures for figures in published if "arXiv" not in figures["source"]]
    assert all(figures["checkpoint"].startswith("https://") for figures in of_repositories)
    of_openmmlab = [figures for figures in published if figures["log"] and "openmmlab" in figures["log"]]
    assert len(of_openmmlab) == 10
    for figures in of_openmmlab:  # as MMAction2 names them: FOLDER/FOLDER.log beside FOLDER/FOLDER_date-hash.pth
        folder = figures["log"].rpartition("/")[0]
        assert figures["checkpoint"].startswith(f"{folder}/{Path(figures['config']).stem}_20")
    kinetics = {figures["labels"] for figures in published if figures["dataset"] == "kinetics400" and figures["labels"]}
    assert {Path(address).name for address in kinetics} == {"label_map_k400.txt", "k400_classmap.json"}


@pytest.mark.slow  # a process
def test_no_count_is_waited_for(tmp_path: Path) -> None:
    """Not even in an empty home: those that come with the package are shown, without importing torch."""
    line = "import sys; from reelbench.harness import listing; listing.rows(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", line], check=True, env={**os.environ, "REELBENCH_CACHE": str(tmp_path)})
    assert not list(tmp_path.iterdir())


def test_models_of_plug_ins_are_counted_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.VARIABLE, str(MEAN_COLOR))
    assert [row["model"] for row in listing.rows() if row["family"] == "mean_color"] == ["mean_color/linear"]
    monkeypatch.delenv(plugins.VARIABLE)
    assert listing.rows() == SHIPPED["rows"]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A zoo of two models that comes without counts, and an empty cache folder."""
    monkeypatch.setattr(models, "names", lambda: ("mvit/b_16x4", "tsm/micro"))
    monkeypatch.setattr(listing, "SHIPPED", tmp_path / "none.json")
    monkeypatch.setenv("REELBENCH_CACHE", str(tmp_path))
    return tmp_path


def test_the_table_names_figures_and_sources(two: Path) -> None:
    table = listing.render("table")
    assert all(text in table for text in ("36.62 M", "70.8", "kinetics400 78.4", "arXiv 2104.11227", "tsm/micro"))


@pytest.mark.slow  # counts the zoo anew
def test_counts_are_kept_until_the_code_changes(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = listing.render("json")
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "rows", lambda: pytest.fail("counted again"))
        assert listing.render("json") == first
    for change in ("damaged", '{"of": "another version", "rows": []}'):
        (two / "models.json").write_text(change)
        assert listing.render("json") == first


def test_counts_that_cannot_be_kept_are_shown(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (two / "file").write_text("")
    monkeypatch.setenv("REELBENCH_CACHE", str(two / "file"))
    assert len(json.loads(listing.render("json"))) == 2


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UserError, match="unknown format 'yaml'"):
        listing.render("yaml")


def test_a_library_without_a_list_is_refused() -> None:
    with pytest.raises(UserError, match="unknown library with a list 'hf': Known: timm, torchvision"):
        models.library_names("hf")


@pytest.mark.slow  # a process
def test_an_outline_is_built_without_the_compiler() -> None:
    """Whose import takes seconds: torch needs it to fill tensors of the meta device at random."""
    build = "import sys; from reelbench import models; models.outline('vivit/micro')"
    subprocess.run([sys.executable, "-c", f"{build}; sys.exit('torch._dynamo' in sys.modules)"], check=True)
