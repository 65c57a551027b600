"""`gflops_view`, `gflops_video`: fvcore's FLOP count under the field's convention, one multiply-add = 1 FLOP.

fvcore counts conv, linear, matmul, einsum, batch norm and layer norm (5 per element), but has no handle for
`scaled_dot_product_attention`, which it would count as zero: one is registered here. As a check, matrix products and
convolutions are also counted by torch's FlopCounterMode and attention by its closed form; a disagreement is flagged.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ...result import Metric
from . import Subject

CONVENTION = "fvcore, multiply-add = 1, head included"
PRODUCTS = ("conv", "linear", "matmul", "bmm", "addmm", "einsum", "attention")
TOLERANCE = 0.005


@dataclass(frozen=True)
class Counts:
    """Multiply-adds of one forward pass (of the whole batch), by three independent counters.

    `total` and `by_operator` are fvcore's, `torch_products` torch's (convolutions and matrix products only),
    `attention` the closed form. `skipped` maps operators that fvcore does not count to the number of their calls.
    """

    total: float
    by_operator: dict[str, float]
    torch_products: float
    attention: float
    skipped: dict[str, int]

    @property
    def disagreement(self) -> str:
        """A sentence if the counters differ by more than half a percent, else ""."""
        products = sum(self.by_operator.get(name, 0.0) for name in PRODUCTS)
        pairs = [
            ("products", products, "torch's counter", self.torch_products),
            ("attention", self.by_operator.get("attention", 0.0), "its closed form", self.attention),
        ]
        found = [
            f"{what}: fvcore {ours / 1e9:.4g} GFLOPs, {other} {theirs / 1e9:.4g}"
            for what, ours, other, theirs in pairs
            if abs(ours - theirs) > TOLERANCE * max(ours, theirs)
        ]
        return f"the counts disagree ({'; '.join(found)}): look at the unsupported operators" if found else ""


def measure(subject: Subject) -> dict[str, Metric]:
    """Count the GFLOPs (billions of multiply-adds) of one view and of all views of a video."""
    with subject.timer.phase("counting"):
        counts = count_all(subject.model, subject.example(1))
    subject.notes["view_size"] = subject.size
    subject.notes["flops_unsupported_operators"] = counts.skipped
    subject.notes["flops_by_operator"] = counts.by_operator
    views = subject.views
    one = Metric(
        value=counts.total / 1e9, unit="GFLOPs", convention=f"{CONVENTION}, one view", warning=counts.disagreement,
        flags=frozenset({"counters_disagree"} if counts.disagreement else ()),
    )  # fmt: skip
    video = replace(one, value=one.value * views.count, convention=f"{CONVENTION}, {views} views")
    return {"gflops_view": one, "gflops_video": video}


def count(model: nn.Module, clip: torch.Tensor) -> tuple[float, dict[str, int]]:
    """Return fvcore's multiply-adds of one forward pass, and the uncounted operators with their numbers of calls.

    The clip, N×3×T×H×W, is moved to the model's device; all N are counted. The model runs in eval mode.
    """
    total, _, skipped = _fvcore(model, clip)
    return total, skipped


def count_all(model: nn.Module, clip: torch.Tensor) -> Counts:
    """Count one forward pass of a clip, N×3×T×H×W, with every counter; the clip is moved to the model's device.

    fvcore traces a real pass; the others only need shapes and run on the meta device.
    """
    total, by_operator, skipped = _fvcore(model, clip)
    model, clip = copy.deepcopy(model).to("meta"), clip.to("meta")
    with _Attention() as seen:
        products = count_shapes(model.eval(), clip)
    return Counts(total, by_operator, products, seen.multiply_adds, skipped)


def count_shapes(model: nn.Module, clip: torch.Tensor, others: dict[Any, Any] | None = None) -> float:
    """Return torch's multiply-adds of one forward pass: products and convolutions only, on any device, `meta` too.

    The model's mode is kept. `others` maps further operators to their FLOP formulas, of two FLOPs per multiply-add.
    """
    counter = FlopCounterMode(display=False, custom_mapping=others)
    # FlopCounterMode does not know the fused attention kernels of every device; the math backend uses plain matmuls.
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        model(clip)
    return counter.get_total_flops() / 2


class _Attention(TorchFunctionMode):
    """Adds up the closed form of every attention called: N·heads·L·S·(E + Ev) multiply-adds."""

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            query, key, value = args[:3] if len(args) >= 3 else (kwargs[name] for name in ("query", "key", "value"))
            pairs = query.shape[:-1].numel() * key.shape[-2]
            self.multiply_adds += pairs * (query.shape[-1] + value.shape[-1])
        return func(*args, **kwargs)


def _fvcore(model: nn.Module, clip: torch.Tensor) -> tuple[float, dict[str, float], dict[str, int]]:
    was_training = model.training
    model.eval()
    clip = clip.to(next(model.parameters()).device)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(model, clip).set_op_handle("aten::scaled_dot_product_attention", _attention)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        total, skipped = float(analysis.total()), dict(analysis.unsupported_ops())
        by_operator = {str(name): float(n) for name, n in analysis.by_operator().items()}
    model.train(was_training)
    return total, by_operator, {str(name): int(n) for name, n in skipped.items()}


def _attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count q @ k^T and weights @ v: …×L×S×E and …×L×S×Ev multiply-adds."""
    query, key, value = (_shape(i) for i in inputs[:3])
    pairs = math.prod(query[:-1]) * key[-2]
    return Counter({"attention": pairs * (query[-1] + value[-1])})


def _shape(value: Any) -> list[int]:
    return value.type().sizes()
