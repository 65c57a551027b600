"""Attention with a learnt bias, in the fused kernel in training too: the gradients of the written-out form."""

import pytest
import torch
import torch.nn.functional as F
from reelbench.models import _biased_attention, _layers
from reelbench.models._biased_attention import BiasedAttention
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.fixture(autouse=True)
def _however_small(monkeypatch):
    monkeypatch.setattr(_layers, "SCORES", 0)


def _inputs(rows: int, heads: int, tokens: int, width: int, dtype: torch.dtype = torch.double) -> list[Tensor]:
    torch.manual_seed(0)
    qkv = torch.randn(rows, tokens, 3, heads, width, dtype=dtype).permute(2, 0, 3, 1, 4)  # as a projection leaves them
    bias = torch.randn(1, heads, tokens, tokens, dtype=dtype)
    return [t.detach().requires_grad_() for t in (*qkv.unbind(0), bias)]


def _written_out(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return (q @ k.mT / q.shape[-1] ** 0.5 + bias).softmax(-1) @ v


@pytest.mark.slow  # two passes for every number
@pytest.mark.parametrize("piece", [1, 2 * 25 * 8, 4 * 25 * 8, 1 << 20])  # one head, two, two rows, all at once
def test_gradients_are_those_of_finite_differences(monkeypatch, piece):
    monkeypatch.setattr(_biased_attention, "PIECE", piece)
    assert torch.autograd.gradcheck(BiasedAttention.apply, _inputs(5, 2, 5, 4))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float, 1e-5), (torch.bfloat16, 0.02)])
def test_gradients_equal_the_written_out_form(dtype, tolerance):
    inputs = _inputs(6, 3, 98, 32, dtype)
    exact = [t.detach().double().requires_grad_() for t in inputs]
    upstream = torch.randn(6, 3, 98, 32, dtype=torch.double)
    own, other = _layers.fused_attention(*inputs), _written_out(*exact)
    found = (own, *torch.autograd.grad(own, inputs, upstream.to(dtype)))
    expected = (other, *torch.autograd.grad(other, exact, upstream))
    for one, two in zip(found, expected, strict=True):
        assert one.dtype == dtype
        assert (one.double() - two).abs().max() <= tolerance * two.abs().max()


class _Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__)
        return func(*args, **(kwargs or {}))


def test_the_kernel_stays_fused_where_the_bias_is_learnt():
    inputs = _inputs(2, 3, 8, 4, torch.float)
    with _Names() as seen:
        _layers.fused_attention(*inputs).sum().backward()
    assert "_scaled_dot_product_flash_attention_for_cpu.default" in seen.names
    assert "_scaled_dot_product_attention_math.default" not in seen.names


@pytest.mark.slow  # traces and compiles
def test_it_compiles_whole_with_its_backward_pass():
    torch.compiler.reset()
    inputs = _inputs(4, 3, 8, 4)
    upstream = torch.randn_like(inputs[0])
    compiled = torch.compile(_layers.fused_attention, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(*inputs), inputs, upstream)
    expected = torch.autograd.grad(F.scaled_dot_product_attention(*inputs[:3], attn_mask=inputs[3]), inputs, upstream)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)
