"""`quick` and `learn` on a GPU: NVDEC decodes the embedded sets, and shows what a CPU does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reelbench import pipelines
from reelbench.pipelines import splits, synthetic
from reelbench.pipelines.index import Index
from reelbench.spec import Clip

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", splits.BUILT_IN)
def test_nvdec_decodes_the_embedded_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv("REELBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(synthetic, "VIDEOS", (8, 8, 16))
    monkeypatch.setattr(synthetic, "HARD_VIDEOS", (16, 16, 16))
    index = Index.load(splits.resolve(name, "cuda").test)
    clip = Clip(frames=8, size=32, short_side=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    with pipelines.open(index, clip=clip, batch=8, device="cpu", decoder="software") as stream:
        ours = torch.cat([batch.clip for batch in stream.epoch()])
    with pipelines.open(index, clip=clip, batch=8, device="cuda", decoder="dali") as stream:
        theirs = torch.cat([batch.clip.cpu() for batch in stream.epoch()])
        assert not stream.skipped
    assert (ours - theirs).abs().mean() < 6
