"""Batch norms folded into convolutions: in inference only, never stale, nothing kept, nothing hidden from hooks."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from reelbench.models import _conv
from reelbench.models._conv import ConvBN, NonLocal
from torch import nn


def made() -> tuple[ConvBN, torch.Tensor]:
    torch.manual_seed(0)
    module = ConvBN(8, 16, 3, 2, groups=4, act=nn.ReLU(inplace=True)).eval()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert tensor is not None
            nn.init.uniform_(tensor, 0.5, 1.5)
    return module, torch.randn(4, 8, 96, 96)


@pytest.fixture
def folds(monkeypatch) -> list[int]:
    """Count the folds."""
    calls, real = [], _conv.folded
    monkeypatch.setattr(_conv, "folded", lambda *given: calls.append(1) or real(*given))
    return calls


def test_inference_folds_and_gives_what_the_batch_norm_gives(folds):
    module, x = made()
    expected = module(x).detach()  # gradients are on: not folded
    assert not folds
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)
    assert folds


def test_non_local_blocks_fold_too(folds):
    block = NonLocal(16, "dot").eval()
    assert isinstance(block.conv_out.bn, nn.BatchNorm3d)
    nn.init.uniform_(block.conv_out.bn.weight, 0.5, 1.5)
    x = torch.randn(2, 16, 4, 28, 28)
    expected = block(x).detach()
    assert not folds
    with torch.inference_mode():
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)
    assert folds


@torch.no_grad()
def test_a_weight_changed_behind_every_version_counter_counts_at_once():
    module, x = made()
    before = module(x)
    module.conv.weight.data.mul_(2)
    module.bn.bias.data.zero_()
    module.bn.running_mean.data.zero_()  # type: ignore[union-attr]
    torch.testing.assert_close(module(x), module.act(module.bn(module.conv(x))), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(module(x), before)


@torch.no_grad()
def test_nothing_is_kept():
    module, x = made()
    keys, kept = list(module.state_dict()), set(vars(module))
    expected = module(x)
    assert list(module.state_dict()) == keys
    assert set(vars(module)) == kept
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(copied(x), expected, rtol=0, atol=0)


@torch.no_grad()
def test_hooks_training_and_small_inputs_see_the_batch_norm(folds):
    module, x = made()
    seen = []
    handle = module.bn.register_forward_hook(lambda *given: seen.append(given[2].shape))
    module(x)
    assert len(seen) == 1
    handle.remove()
    module(x[:1, :, :4, :4])
    module.train()(x)
    assert module.bn.num_batches_tracked == 1
    assert not folds


@torch.no_grad()
def test_a_trace_holds_the_batch_norm_which_is_part_of_the_count():
    module, x = made()
    graph = torch.jit.trace(module, x, check_trace=False).inlined_graph  # type: ignore[reportPrivateImportUsage]
    kinds = {node.kind() for node in graph.nodes()}
    assert "aten::batch_norm" in kinds
    assert "aten::mul" not in kinds  # nor anything of how it is decided
