"""One forward pass of every family at its published input, on one CPU thread (`--benchmark-only`).

And of one convolution with its batch norm, folded as in inference and as it is written.
"""

import pytest
import torch
from reelbench import models
from reelbench.models import _conv

PUBLISHED = {
    "dualformer": "dualformer/t",
    "mvit": "mvit/b_16x4",
    "timesformer": "timesformer/b",
    "tps": "tps/swin_t",
    "tsm": "tsm/r50_8f",
    "video_swin": "video_swin/t",
    "vivit": "vivit/b",
}
FAMILIES = sorted({name.partition("/")[0] for name in models.names()})


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow  # models of full size
@pytest.mark.parametrize("family", FAMILIES)
def test_forward(benchmark, family):
    variant = models.find(PUBLISHED[family])
    model = models.build(PUBLISHED[family]).eval()
    clip = torch.randn(1, 3, variant.clip.frames, variant.clip.size, variant.clip.size)
    with torch.inference_mode():
        logits = benchmark.pedantic(model, args=(clip,), warmup_rounds=1, rounds=3)
    assert logits.shape == (1, variant.num_classes)


@pytest.mark.parametrize("way", ["folded", "written"])
def test_a_convolution_and_its_batch_norm(benchmark, way, monkeypatch):
    if way == "written":
        monkeypatch.setattr(_conv, "folding_pays", lambda *given: False)
    block = _conv.ConvBN(64, 256, 1).eval()
    x = torch.randn(8, 64, 56, 56).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert benchmark(block, x).shape == (8, 256, 56, 56)
