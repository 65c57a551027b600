"""The shift in time, put around an attention that sees single frames."""

from __future__ import annotations

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.models import _layers, _time_shift
from reelbench.models._time_shift import TimeShift
from reelbench.models.tps import ShiftAttention
from torch import Tensor


def test_tokens_move_by_the_pattern_around_the_clip_and_come_back() -> None:
    frames, grid = 8, (4, 5)
    time = torch.arange(frames).repeat(2).view(16, 1, 1).expand(-1, 1 + 20, 3)
    shift = TimeShift(patch=True, heads=1, grid=grid)
    moved = shift(time, frames).view(2, frames, 21, 3)
    assert torch.equal(moved[:, :, 0], time.view(2, frames, 21, 3)[:, :, 0])  # the class token stays
    for token, (row, column) in {0: (0, 0), 1: (0, 1), 7: (1, 2), 19: (3, 4)}.items():
        step = _time_shift.PATTERN[row % 3][column % 3]
        assert moved[1, :, 1 + token, 0].tolist() == [(t - step) % frames for t in range(frames)]
    assert torch.equal(shift.back(moved.flatten(0, 1), frames), time)


def test_channels_are_borrowed_from_the_neighbours_and_not_given_back() -> None:
    x = torch.arange(4.0).view(4, 1, 1).repeat(1, 6, 16)
    shift = TimeShift(patch=False, heads=2, grid=(2, 3))
    moved = shift(x, 4)
    assert moved[:, 0].tolist() == [[max(t - 1, 0), min(t + 1, 3), *[t] * 6] * 2 for t in range(4)]
    assert torch.equal(shift.back(moved, 4), moved)


@pytest.mark.parametrize("patch", [False, True])
def test_it_is_the_shift_that_tps_cuts_into_its_windows(patch: bool) -> None:
    """One window over the whole frame: TPS's attention equals a plain one between the shift and its way back."""
    torch.manual_seed(0)
    fused = ShiftAttention(32, 2, frames=4, side=4, patch=patch)
    torch.nn.init.zeros_(fused.relative_position_bias_table)
    x = torch.randn(2, 4, 4, 4, 32)
    shift = TimeShift(patch=patch, heads=2, grid=(4, 4))
    rows = shift(x.flatten(2, 3).flatten(0, 1), 4)
    plain = fused.proj(_layers.attend(*_layers.split_heads(fused.qkv(rows), 3, 2)))
    torch.testing.assert_close(fused(x), shift.back(plain, 4).view_as(x), rtol=1e-4, atol=1e-5)


def test_a_space_only_transformer_sees_the_order_of_frames_through_it() -> None:
    def spread(model: torch.nn.Module, clip: Tensor) -> float:
        return float((model(clip) - model(clip[:, :, torch.tensor([3, 0, 7, 1, 5, 2, 6, 4])])).abs().max())

    clip = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        plain, shifted = (_space_only(time_shift=on) for on in (False, True))
        assert spread(plain, clip) < 1e-5 < 1e-3 < spread(shifted, clip)
    assert plain.state_dict().keys() == shifted.state_dict().keys()


def _space_only(*, time_shift: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    model = models.build("timesformer/micro", attention="space", time_shift=time_shift)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def test_it_has_no_place_where_attention_sees_time_already() -> None:
    with pytest.raises(UserError, match="time_shift is for attention='space'"):
        models.build("timesformer/micro", time_shift=True)


def test_attention_over_many_rows_is_cut_into_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(3, 7, 2, 5, 4).unbind(0)
    bias = torch.randn(7, 1, 5, 5)
    whole = _layers.fused_attention(q, k, v, bias), _layers.fused_attention(q, k, v, bias[:1])
    monkeypatch.setattr(_layers, "MAX_ROWS", 3)
    monkeypatch.setattr(Tensor, "is_cuda", True)
    torch.testing.assert_close(_layers.fused_attention(q, k, v, bias), whole[0])
    torch.testing.assert_close(_layers.fused_attention(q, k, v, bias[:1]), whole[1])
