"""Windows as one permutation attend exactly as padding, rolling, cutting and masking do."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from reelbench.models import _windows, tps
from reelbench.models.video_swin import WindowAttention

CPU = torch.device("cpu")


def _cut(x: torch.Tensor, window: tuple[int, int, int]) -> torch.Tensor:
    b, d, h, w, c = x.shape
    (p, q, r) = window
    x = x.view(b, d // p, p, h // q, q, w // r, r, c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, p * q * r, c)


def _join(x: torch.Tensor, window: tuple[int, int, int], size: tuple[int, ...]) -> torch.Tensor:
    b, d, h, w = size
    (p, q, r) = window
    x = x.view(b, d // p, h // q, w // r, p, q, r, -1)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, d, h, w, -1)


def _regions(size: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> torch.Tensor:
    image, count = torch.zeros(1, *size, 1), 0
    axes = [(slice(-w), slice(-w, -s), slice(-s, None)) for w, s in zip(window, shift, strict=True)]
    for d in axes[0]:
        for h in axes[1]:
            for w in axes[2]:
                image[:, d, h, w] = count
                count += 1
    return image


def written_out(attention: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Shifted-window attention step by step, as the paper describes it."""
    grid = tuple(x.shape[1:4])
    window = tuple(g if g <= w else w for g, w in zip(grid, attention.window, strict=True))
    shift = tuple(0 if g <= w else s for g, w, s in zip(grid, attention.window, attention.shift, strict=True))
    pads = [-g % w for g, w in zip(grid, window, strict=True)]
    y = F.pad(x, (0, 0, 0, pads[2], 0, pads[1], 0, pads[0]))
    size = tuple(y.shape[1:4])
    y = torch.roll(y, [-s for s in shift], (1, 2, 3))
    y = _cut(y, window)
    count, tokens, channels = y.shape
    q, k, v = attention.qkv(y).view(count, tokens, 3, attention.heads, -1).permute(2, 0, 3, 1, 4)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    index = _full_index(attention.window)[:tokens, :tokens]
    scores = scores + attention.relative_position_bias_table[index].permute(2, 0, 1)
    regions = _cut(_regions(size, window, shift), window).squeeze(-1)
    mask = (regions[:, None] != regions[:, :, None]) * -100.0
    scores = (scores.view(x.shape[0], -1, attention.heads, tokens, tokens) + mask[None, :, None]).view_as(scores)
    y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(count, tokens, channels)
    y = _join(attention.proj(y), window, (x.shape[0], *size))
    y = torch.roll(y, shift, (1, 2, 3))
    return y[:, : grid[0], : grid[1], : grid[2]]


def _full_index(window: tuple[int, int, int]) -> torch.Tensor:
    cells = [(d, h, w) for d in range(window[0]) for h in range(window[1]) for w in range(window[2])]
    spans = [2 * n - 1 for n in window]
    rows = []
    for a in cells:
        deltas = [[i - j + n - 1 for i, j, n in zip(a, b, window, strict=True)] for b in cells]
        rows.append([(d * spans[1] + h) * spans[2] + w for d, h, w in deltas])
    return torch.tensor(rows)


GRIDS = [(4, 8, 8), (4, 7, 9), (5, 8, 6), (2, 8, 8), (4, 4, 8), (1, 3, 3), (3, 4, 2), (6, 12, 4)]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_attention_equals_the_written_out_form(grid, shifted):
    torch.manual_seed(0)
    attention = WindowAttention(16, 2, (2, 4, 4), shifted=shifted).double()
    torch.nn.init.normal_(attention.relative_position_bias_table)
    x = torch.randn(3, *grid, 16, dtype=torch.double, requires_grad=True)
    output, expected = attention(x), written_out(attention, x)
    torch.testing.assert_close(output, expected)
    upstream = torch.randn_like(expected)
    inputs = (x, *attention.parameters())
    for one, other in zip(
        torch.autograd.grad(output, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("grid", [(4, 8, 8), (3, 9, 7)])
def test_cut_and_join_are_inverse(grid):
    windows = _windows.plan(grid, (2, 4, 4), (1, 2, 2), CPU)
    x = torch.randn(2, *grid, 3)
    assert torch.equal(windows.reverse(windows.partition(x), 2), x)


def test_a_mask_exists_once_a_kind():
    windows = _windows.plan((16, 56, 56), (8, 7, 7), (4, 3, 3), CPU)
    assert windows.counts == (49, 7, 7, 1, 49, 7, 7, 1)
    assert windows.masks is not None
    assert [bool(mask.any()) for mask in windows.masks] == [False] + [True] * 7


def test_the_official_clamp_keeps_shifting_time_where_space_is_one_window():
    assert _windows.clamp((16, 7, 7), (8, 7, 7), (4, 3, 3)) == ((8, 7, 7), (4, 0, 0))
    assert _windows.clamp((4, 14, 14), (8, 7, 7), (4, 3, 3)) == ((4, 7, 7), (0, 3, 3))


def test_tps_moves_tokens_along_time_by_its_pattern():
    """Row by row, the source frame of a token at frame t is t plus this, on a circle of 16."""
    expected = [[4, -1, -2, 4, -1, -2, 4], [1, 0, -3, 1, 0, -3, 1], [2, 3, -4, 2, 3, -4, 2]]
    windows = tps.ShiftAttention(8, 1, 16, 7, patch=True).windows((16, 7, 7), CPU)
    frames = torch.arange(16.0).view(1, 16, 1, 1, 1).expand(1, 16, 7, 7, 1)
    moved = windows.partition(frames).view(16, 7, 7)
    for row in range(7):
        steps = torch.tensor(expected[row % 3])
        assert torch.equal(moved[:, row], ((torch.arange(16)[:, None] + steps) % 16).float())
    assert torch.equal(windows.reverse(windows.partition(frames), 1), frames)


def test_a_copy_keeps_partitions_of_its_own():
    """torch.compile knows an attention by its number; copies must not fill the original's cache."""
    attention = WindowAttention(8, 2, (2, 4, 4), shifted=False)
    copied = copy.deepcopy(attention)
    loaded = pickle.loads(pickle.dumps(attention))
    assert len({one.number for one in (attention, copied, loaded)}) == 3
    copied.windows((2, 8, 8), CPU)
    assert list(copied.plans) == [((2, 8, 8), CPU)]
    assert not attention.plans
