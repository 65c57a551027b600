"""The contact sheet shows the clips that training gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reelbench.harness.explain import contact_sheet
from reelbench.harness.training.stream import open_stream
from reelbench.pipelines import SamplerState
from reelbench.pipelines.index import Index
from reelbench.spec import Clip, Recipe

CLIP = Clip(frames=4, stride=2, size=32, short_side=32)
RECIPE = Recipe(rand_augment="imgaug_n4_m7", erase=0.5, color_jitter=0.4)
WHERE = {"device": "cpu", "workers": 1}


@pytest.mark.slow  # several streams, each with its decoders
def test_its_pictures_are_the_clips_of_the_run(
    tiny_index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []
    honest = contact_sheet._draw

    def keep(pictures: np.ndarray, names: list[str], to: Path) -> None:
        drawn.append(pictures)
        honest(pictures, names, to)

    monkeypatch.setattr(contact_sheet, "_draw", keep)
    sheet = tmp_path / "new" / "sheet.png"
    rows = contact_sheet.show(tiny_index, RECIPE, CLIP, sheet, videos=3, sampler=SamplerState(seed=7, epoch=2), **WHERE)
    with open_stream(tiny_index, RECIPE, CLIP, batch=3, sampler=SamplerState(seed=7, epoch=2), **WHERE) as stream:
        batch = next(iter(stream.epoch()))
    std, mean = (torch.tensor(v).view(3, 1, 1, 1) for v in (CLIP.std, CLIP.mean))
    expected = (batch.clip * std + mean).round().clamp(0, 255).permute(0, 2, 3, 4, 1)
    assert np.array_equal(drawn[0], expected.byte().numpy())
    assert sheet.read_bytes()[:4] == b"\x89PNG"
    named = [f"{tiny_index.classes[int(label)]}: " for label in batch.label]
    assert [row.startswith(name) for row, name in zip(rows, named, strict=True)] == [True] * 3


@pytest.mark.slow  # several streams, each with its decoders
@pytest.mark.exhaustive
def test_a_recipe_reaches_the_graph(tiny_index: Index) -> None:
    def first(recipe: Recipe) -> torch.Tensor:
        with open_stream(tiny_index, recipe, CLIP, batch=4, sampler=SamplerState(seed=7), **WHERE) as stream:
            return next(iter(stream.epoch())).clip

    plain = first(Recipe())
    for change in ({"rand_augment": "imgaug_default"}, {"erase": 1.0}, {"color_jitter": 0.4}, {"crop": "center"}):
        assert not torch.equal(plain, first(replace(Recipe(), **change)))
