"""`gflops_view`, `gflops_video`: fvcore's count under the field's convention, one multiply-add = 1.

fvcore counts conv, linear, matmul, einsum, batch norm and layer norm (5 an element), but has no handle for
`scaled_dot_product_attention`, which it would count as zero: the handle is registered here.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from ..result import Metric
from . import Subject

CONVENTION = "fvcore, multiply-add = 1, head included"


def measure(subject: Subject) -> dict[str, Metric]:
    """Count one view, and all views of a video."""
    view, skipped = count(subject.model, subject.example(1))
    subject.notes["flops_unsupported_operators"] = skipped
    views = subject.views
    return {
        "gflops_view": Metric(value=view / 1e9, unit="GFLOPs", convention=f"{CONVENTION}, one view"),
        "gflops_video": Metric(
            value=view * views.count / 1e9, unit="GFLOPs", convention=f"{CONVENTION}, {views} views"
        ),
    }


def count(model: nn.Module, clip: torch.Tensor) -> tuple[float, dict[str, int]]:
    """Return the multiply-adds of one forward pass, and the operators that were not counted with their numbers."""
    was_training = model.training
    model.eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(model, clip).set_op_handle("aten::scaled_dot_product_attention", _attention)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        total, skipped = float(analysis.total()), dict(analysis.unsupported_ops())
    model.train(was_training)
    return total, {str(name): int(n) for name, n in skipped.items()}


def _attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count q @ k^T and weights @ v: …×L×S×E and …×L×S×Ev multiply-adds."""
    query, key, value = (_shape(i) for i in inputs[:3])
    pairs = math.prod(query[:-1]) * key[-2]
    return Counter({"attention": pairs * (query[-1] + value[-1])})


def _shape(value: Any) -> list[int]:
    return value.type().sizes()
