"""The catalogue's cost, counted without computing, is the one that a report measures."""

from __future__ import annotations

import json

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness import catalog
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
    rows = {row["model"]: row for row in json.loads(catalog.render("json"))}
    assert list(rows) == list(models.names())
    assert rows["video_swin/t"]["gflops_view"] == pytest.approx(87.9, rel=0.01)  # as the paper prints it
    assert rows["timesformer/b"]["gflops_view"] == pytest.approx(196, rel=0.01)
    assert all(row["gflops_view"] > 0 and row["params"] > 0 for row in rows.values())


def test_the_table_names_figures_and_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "names", lambda: ("mvit/b_16x4", "tsm/micro"))
    table = catalog.render("table")
    assert all(text in table for text in ("36.62 M", "70.8", "kinetics400 78.4", "arXiv 2104.11227", "tsm/micro"))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UserError, match="unknown format 'yaml'"):
        catalog.render("yaml")
