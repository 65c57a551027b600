"""Blocks that three or more architectures share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ._biased_attention import BiasedAttention

MAX_ROWS = 65_535  # of one call: CUDA's fused attention puts them into a grid dimension of that size
# Bytes of an MLP's hidden features above which inference on a CPU computes them in pieces, of the second size: peak
# memory falls, and the C library need not return blocks of more than 32 MiB to the system after every use.
LARGE, PIECE = 16 << 20, 8 << 20
SCORES = (
    2 << 20
)  # bytes: attention scores that fit the cache are kept for the gradient of a learned bias, larger ones recomputed


class DropPath(nn.Module):
    """Stochastic depth: in training, zero each sample with probability `rate`, and scale the rest by 1 / (1 - rate).

    A sample is an entry of the first axis: `N ...` -> `N ...`. In eval mode, the identity.
    Huang et al., Deep Networks with Stochastic Depth, 2016.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask / keep

    def extra_repr(self) -> str:
        """Return the rate, for printing."""
        return f"rate={self.rate}"


class Mlp(nn.Module):
    """The transformer's two-layer MLP with exact GELU. `... C` -> `... C`."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return in_pieces(lambda rows: self.fc2(F.gelu(self.fc1(rows))), x, width=self.fc1.out_features)


class PooledHead(nn.Module):
    """Mean over time and space, dropout, one linear layer. `N C T H W` -> `N classes`. (I3DHead of MMAction.)"""

    def __init__(self, dim: int, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc_cls = nn.Linear(dim, num_classes)
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.zeros_(self.fc_cls.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc_cls(self.dropout(x.mean(dim=(2, 3, 4))))


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor, *, width: int) -> Tensor:
    """Return `function(x)` for a function that maps each row independently: `... C` -> `... D`.

    Inference on a CPU computes it chunk by chunk when its intermediate features, `width` numbers a row, exceed `LARGE`.
    """
    wide = width * x.element_size()
    large = x.numel() // x.shape[-1] * wide > LARGE
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling() or not large:
        return function(x)
    pieces = [function(rows) for rows in x.flatten(0, -2).split(max(1, PIECE // wide))]
    return torch.cat(pieces).unflatten(0, x.shape[:-1])


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split a joint projection `B N (parts heads d)` into `parts` tensors `B heads N d`, such as q, k and v."""
    batch, tokens, width = x.shape
    return x.view(batch, tokens, parts, heads, width // (parts * heads)).permute(2, 0, 3, 1, 4).unbind(0)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(d) + bias) v with the heads concatenated: `B heads N d` -> `B N (heads d)`.

    k and v are `B heads M d`, `bias` is `1 heads N M` or `B heads N M` in the dtype of q.
    """
    return fused_attention(q, k, v, bias).transpose(1, 2).flatten(2)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(d) + bias) v, `B heads N d`, in calls small enough for CUDA's fused kernels.

    The arguments are those of `attend`.
    """
    shared = bias is None or bias.shape[0] == 1
    if bias is not None and shared and _trains_on_cpu(bias):
        if q.shape[0] * bias.numel() * q.element_size() <= SCORES:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return BiasedAttention.apply(q, k, v, bias)  # type: ignore[return-value]
    if not q.is_cuda or q.shape[0] <= MAX_ROWS:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    rows = [t.split(MAX_ROWS) for t in (q, k, v)]
    biases = [bias] * len(rows[0]) if shared else bias.split(MAX_ROWS)  # type: ignore[union-attr]
    return torch.cat([fused_attention(*part) for part in zip(*rows, biases, strict=True)])


def _trains_on_cpu(bias: Tensor) -> bool:
    """Say whether a bias's gradient is wanted on a CPU; an exported program is for inference, at any batch."""
    wanted = bias.requires_grad and torch.is_grad_enabled() and bias.device.type == "cpu"
    return wanted and not torch.compiler.is_exporting()


def drop_rates(rate: float, depth: int) -> list[float]:
    """Return the stochastic-depth rates of `depth` blocks, linear from 0 to `rate`, both included (one block: 0)."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def run(block: Callable[..., Tensor], *inputs: Any, checkpointed: bool) -> Tensor:
    """Call a block, with activation checkpointing (recomputed in backward) if `checkpointed` and gradients are on."""
    if checkpointed and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)  # type: ignore[return-value]
    return block(*inputs)


def init_transformer(model: nn.Module, std: float = 0.02) -> None:
    """Initialize linear layers and relative-position tables with a truncated normal, linear biases with zero.

    Convolutions, norms and other parameters are left as they are.
    The published 0.02 suits widths of a hundred and more; the narrow layers of a micro need about 1 / sqrt(width).
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, parameter in model.named_parameters():
        if name.endswith("relative_position_bias_table"):
            nn.init.trunc_normal_(parameter, std=std)
