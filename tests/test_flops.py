"""FLOPs, three ways: fvcore, torch's counter and the closed form of attention agree, or the row says so."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from reelbench import models
from reelbench.harness.metrics.flops import count, count_all


class Attention(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = torch.nn.Linear(8, 8, bias=False)

    def forward(self, x):
        x = self.project(x)
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


def test_attention_counts_as_its_two_products():
    counts = count_all(Attention(), torch.randn(2, 3, 10, 8))
    attention, linear = 2 * (2 * 3 * 10 * 10 * 8), 2 * 3 * 10 * 8 * 8
    assert counts.total == attention + linear
    assert counts.attention == attention
    assert counts.torch_products == attention + linear
    assert counts.disagreement == ""


def test_a_clip_is_counted_where_the_model_is():
    """A cast model leaves the one that is counted on the CPU."""
    clip = torch.randn(2, 3, 10, 8)
    assert count(Attention().to("meta"), clip) == count(Attention(), clip)


def test_a_count_that_differs_is_told():
    counts = count_all(Attention(), torch.randn(2, 3, 10, 8))
    less = dataclasses.replace(counts, torch_products=0.9 * counts.torch_products)
    assert "products: fvcore" in less.disagreement
    missed = dataclasses.replace(counts, by_operator={**counts.by_operator, "attention": 0.0})
    assert "attention: fvcore 0 GFLOPs" in missed.disagreement


def test_an_operator_that_fvcore_skips_is_listed_and_disagrees():
    class Hidden(torch.nn.Linear):
        def forward(self, x):
            return torch.ops.aten.mv(self.weight, x)

    counts = count_all(Hidden(64, 64), torch.randn(64))
    assert "aten::mv" in counts.skipped


@pytest.mark.parametrize("name", sorted(name for name in models.names() if name.endswith("/micro")))
def test_the_counts_of_every_family_agree(name):
    clip = models.find(name).clip
    counts = count_all(models.build(name), torch.randn(1, 3, clip.frames, clip.size, clip.size))
    assert counts.disagreement == ""
    assert counts.total == count(models.build(name), torch.randn(1, 3, clip.frames, clip.size, clip.size))[0]
