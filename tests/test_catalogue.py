"""The catalogue's cost, counted without computing, is the one that a report measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness import catalog, listing
from reelbench.harness.metrics import flops

MICROS = [name for name in models.names() if name.endswith("/micro")]


@pytest.mark.parametrize("name", MICROS)
def test_the_cost_is_what_fvcore_counts(name: str) -> None:
    clip = models.find(name).clip
    view = torch.rand(1, 3, clip.frames, clip.size, clip.size)
    model = models.build(name).eval()
    measured, _ = flops.count(model, view)
    assert catalog.gflops(model.to("meta"), view.to("meta")) == pytest.approx(measured / 1e9, rel=1e-4)


@pytest.mark.slow  # builds and counts the whole zoo
def test_every_variant_is_listed_with_its_cost_and_its_sources() -> None:
    rows = {row["model"]: row for row in catalog.rows()}
    assert list(rows) == list(models.names())
    assert rows["video_swin/t"]["gflops_view"] == pytest.approx(87.9, rel=0.01)  # as the paper prints it
    assert rows["timesformer/b"]["gflops_view"] == pytest.approx(196, rel=0.01)
    assert all(row["gflops_view"] > 0 and row["params"] > 0 for row in rows.values())


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A zoo of two models, and an empty cache folder."""
    monkeypatch.setattr(models, "names", lambda: ("mvit/b_16x4", "tsm/micro"))
    monkeypatch.setenv("REELBENCH_CACHE", str(tmp_path))
    return tmp_path


def test_the_table_names_figures_and_sources(two: Path) -> None:
    table = listing.render("table")
    assert all(text in table for text in ("36.62 M", "70.8", "kinetics400 78.4", "arXiv 2104.11227", "tsm/micro"))


def test_counts_are_kept_until_the_code_changes(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = listing.render("json")
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "rows", lambda: pytest.fail("counted again"))
        assert listing.render("json") == first
    line = "import sys; from reelbench.harness import listing; listing.rows(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", line], check=True)
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
