"""A full card is named, and no video is blamed for it. In a process of its own: beside it no other test could run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import encode
from reelbench.spec import Clip

pytestmark = pytest.mark.gpu

CLIP = Clip(frames=4, stride=2, size=64, short_side=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_a_full_card_is_named_and_bars_no_video(tmp_path: Path):
    pictures = np.random.default_rng(0).integers(0, 256, (10, 34, 60, 3), dtype=np.uint8).repeat(32, 1).repeat(32, 2)
    encode(tmp_path / "a.mp4", pictures, codec="h264", fps=25, gop=5)
    index = indexing.build([("a.mp4", 0)] * 4, ("a",), tmp_path, workers=0)
    with pipelines.open(index, clip=CLIP, batch=4, device="cuda", decoder="dali", workers=1) as stream:
        free, _ = torch.cuda.mem_get_info()
        ballast = torch.empty(free - 2**25, dtype=torch.uint8, device="cuda")
        try:
            with pytest.raises(UserError, match="^GPU: "):
                list(stream.epoch())
        finally:
            del ballast
            torch.cuda.empty_cache()
        assert stream.skipped == ()
