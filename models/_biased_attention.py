"""Attention with a learned bias, trained on a CPU: fused forward, scores recomputed in the backward pass.

`scaled_dot_product_attention` does not use its fused kernel if the bias needs a gradient, and then saves the scores of
all heads. Here the forward pass saves only the fused kernel's output and the log-sum-exp of each row. The backward
pass recomputes the scores from them block by block, each small enough for the cache, and from each the gradients of
queries, keys, values and bias (Dao et al., FlashAttention, 2022, algorithm 4).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PIECE = 2 << 20  # bytes of scores at a time: about the cache of one core


class BiasedAttention(torch.autograd.Function):
    """`BiasedAttention.apply(q, k, v, bias)`: softmax(q k^T / sqrt(d) + bias) v, on a CPU only.

    q is `B heads N d`, k and v `B heads M d`, `bias` `1 heads N M` in the dtype of q; the result is `B heads N d`.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        # Private to torch: the public function does not return the log-sum-exp that the backward pass needs.
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, logsumexp = fused(q, k, v, 0.0, False, attn_mask=bias)
        ctx.save_for_backward(q, k, v, bias, out, logsumexp)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return _gradients(grads[0], *ctx.saved_tensors)


@torch.library.custom_op("reelbench::biased_attention_gradients", mutates_args=())
def _gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, out: Tensor, logsumexp: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # A custom operator, because torch.compile would unroll the loop.
    of_q, of_k, of_v = (torch.empty_like(t) for t in (q, k, v))
    of_bias = torch.zeros_like(bias, dtype=logsumexp.dtype)
    for at in _pieces(q.shape[0], q.shape[1], q.shape[2] * k.shape[2] * logsumexp.element_size()):
        # Accumulated in the dtype of the log-sum-exp, as in the fused kernel: float32 for half-precision inputs.
        piece = [t[at].to(logsumexp.dtype) for t in (grad, q, k, v, out, logsumexp)]
        of_bias[:, at[1]] += _piece(*piece, bias[:, at[1]], of_q[at], of_k[at], of_v[at])
    return of_q, of_k, of_v, of_bias.to(bias.dtype)


@_gradients.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, out: Tensor, logsumexp: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), torch.empty_like(bias)


def _piece(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logsumexp: Tensor, bias: Tensor, *into: Tensor
) -> Tensor:
    """Write the gradients of q, k and v into `into`; return that of the bias, `1 heads N M`."""
    scale = q.shape[-1] ** -0.5
    weights = (q * scale @ k.mT).add_(bias).sub_(logsumexp[..., None]).exp_()
    into[2].copy_(weights.mT @ grad)
    of_scores = (grad @ v.mT).sub_((grad * out).sum(-1, keepdim=True)).mul_(weights)
    into[0].copy_(of_scores @ (k * scale))
    into[1].copy_(of_scores.mT @ (q * scale))
    return of_scores.sum(0, keepdim=True)


def _pieces(rows: int, heads: int, size: int) -> list[tuple[slice, slice]]:
    """Return ranges of rows and of heads whose scores, `size` bytes a head, fit a piece."""
    many_heads = min(heads, max(1, PIECE // size))
    many_rows = max(1, PIECE // (size * heads))
    return [
        (slice(row, row + many_rows), slice(head, head + many_heads))
        for row in range(0, rows, many_rows)
        for head in range(0, heads, many_heads)
    ]
