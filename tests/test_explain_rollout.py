"""What attention passed on: nothing is lost on the way, and it ends where the attended tokens stand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness.explain import rollout
from reelbench.harness.explain.maps import attention as attention_maps
from reelbench.harness.explain.maps import attention_stage
from reelbench.models import _vit
from reelbench.models._dualformer import LocalAttention, PyramidAttention
from reelbench.models._time_shift import TimeShift
from reelbench.models.mvit import PooledAttention
from reelbench.models.tps import ShiftAttention
from reelbench.models.video_swin import WindowAttention
from reelbench.pipelines.index import Index
from safetensors.torch import save_file
from torch import Tensor, nn

TRANSFORMERS = sorted(name for name in models.names() if name.endswith("/micro") and not name.startswith("tsm/"))
KINDS = ("timesformer/micro", "video_swin/micro")  # one with a class token, one without
# Paddings and shifts, a coarse pyramid, and every layout of attention over time.
SHAPES: list[tuple[str, int, dict[str, Any]]] = [
    *((name, 32, {}) for name in TRANSFORMERS),
    ("video_swin/micro", 40, {"window": (3, 4, 4)}),
    ("tps/micro", 48, {}),
    ("dualformer/micro", 64, {"size": 64}),
    ("timesformer/micro", 32, {"attention": "joint"}),
    ("timesformer/micro", 32, {"attention": "space"}),
    ("timesformer/micro", 32, {"attention": "space", "time_shift": True}),
    ("vivit/micro", 32, {"attention": "joint"}),
    ("vivit/micro", 32, {"attention": "divided"}),
]


def made(name: str, side: int = 32, **options: Any) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = models.build(name, num_classes=8, **options).eval()
    return model, torch.randn(2, 3, models.find(name).clip.frames, side, side)


def recorded(model: nn.Module, clip: Tensor) -> tuple[list[rollout.Layer], Tensor]:
    return rollout.output_relevance(model, rollout.record(model, attention_stage(model), clip), len(clip))


@pytest.mark.parametrize(("name", "side", "options"), SHAPES)
def test_a_rollout_loses_nothing_of_the_answer(name, side, options):
    model, clip = made(name, side, **options)
    layers, answer = recorded(model, clip)
    last = layers[-1]
    for shares in (
        answer,
        rollout.roll_out(layers, answer),
        rollout.propagate(last, answer, last.weights().mean(1)),
        rollout.propagate(last, answer, last.weights()[:, 1]),
    ):
        assert shares.min() >= 0
        torch.testing.assert_close(shares.reshape(len(clip), -1).sum(1), torch.ones(len(clip)))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_maps_and_heads_have_the_clip_s_shape_and_follow_what_it_shows(name):
    model, clip = made(name)
    other = clip.clone()
    other[:, :, 2:4, 8:16, 16:24] = 3 * torch.randn(2, 3, 2, 8, 8)
    for heads in (False, True):
        maps = attention_maps(model, clip, heads=heads)
        assert {m.shape for m in maps.values()} == {(2, *clip.shape[2:])}
        changed = attention_maps(model, other, heads=heads)
        assert all(not torch.equal(m, changed[title]) for title, m in maps.items() if title != "60% of it")
    assert list(attention_maps(model, clip)) == ["rollout", "last layer", "60% of it"]
    assert list(maps) == [f"head {n}" for n in range(len(maps))]
    assert len(maps) > 1


def test_the_core_is_in_or_out_and_holds_its_share_of_every_frame():
    maps = attention_maps(*made("vivit/micro"))
    core = maps["60% of it"]
    assert set(core.unique().tolist()) == {0.0, 1.0}
    assert (core.flatten(2).mean(-1) < 0.75).all()
    assert (core.flatten(2).mean(-1) > 0.25).all()


@pytest.mark.slow  # explains with every family
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in KINDS else [pytest.mark.exhaustive]) for n in TRANSFORMERS]
)
def test_every_family_goes_through_the_command(name, tiny_synthetic, tmp_path: Path, reelbench):
    model, _ = made(name)
    save_file(model.state_dict(), str(tmp_path / "w.safetensors"))
    video = Index.load(tiny_synthetic["test"])[0].path
    given = ["explain", name, video, "--checkpoint", tmp_path / "w.safetensors", "--method", "attention"]
    for heads in ([], ["--heads"]):
        code, out, err = reelbench(*given, *heads, "--to", tmp_path / "x.png")
        assert code == 0, err
        titles = out.splitlines()[-1].split(" -> ")[0].split(" | ")
        assert titles[:2] == ["frame", "head 0" if heads else "rollout"]
        with Image.open(tmp_path / "x.png") as picture:
            assert picture.size == (8 * 160, len(titles) * 180)


def test_what_attends_to_nothing_says_so():
    with pytest.raises(UserError, match="tsm/micro is no transformer: use --method gradcam"):
        attention_maps(*made("tsm/micro"))


@pytest.mark.parametrize("grid", [(4, 4, 4), (4, 5, 7)])
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_pass_on_what_a_slow_sum_says(grid, shifted):
    """Every pair of tokens by itself: its window, the region of its window, its distance, its bias."""
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, (2, 4, 4), shifted=shifted)
    nn.init.normal_(attention.relative_position_bias_table)
    nn.init.normal_(attention.qkv.weight)
    x = torch.randn(1, *grid, 8)
    (layer,) = rollout.record(attention, attention, x)
    shares = torch.rand(1, *grid)
    found = rollout.propagate(layer, shares, layer.weights().mean(1))
    torch.testing.assert_close(found, _slowly(attention, x, shares), rtol=1e-4, atol=1e-5)


def _slowly(attention: WindowAttention, x: Tensor, shares: Tensor) -> Tensor:
    grid = x.shape[1:4]
    fits = [length <= w for length, w in zip(grid, attention.window, strict=True)]
    shift = [0 if fit else s for fit, s in zip(fits, attention.shift, strict=True)]
    padded = [-(-length // w) * w for length, w in zip(grid, attention.window, strict=True)]
    places = list(itertools.product(*map(range, grid)))
    rolled = [[(c - s) % p for c, s, p in zip(place, shift, padded, strict=True)] for place in places]
    windows = [[c // w for c, w in zip(place, attention.window, strict=True)] for place in rolled]
    # A window at the end of a shifted axis holds two regions: what was there, and what was rolled in.
    regions = [[bool(s) and c >= p - s for c, s, p in zip(place, shift, padded, strict=True)] for place in rolled]
    q, k, _ = attention.qkv(x).view(len(places), 3, 2, 4).unbind(1)
    _, height, width = attention.window
    result = torch.zeros(len(places))
    for head, i in itertools.product(range(2), range(len(places))):
        scores = torch.full((len(places),), -torch.inf)
        for j in range(len(places)):
            if windows[i] == windows[j] and regions[i] == regions[j]:
                dt, dh, dw = (a - b for a, b in zip(rolled[i], rolled[j], strict=True))
                row = ((dt + attention.window[0] - 1) * (2 * height - 1) + dh + height - 1) * (2 * width - 1)
                bias = attention.relative_position_bias_table[row + dw + width - 1, head]
                scores[j] = q[i, head] @ k[j, head] / 2 + bias
        result += shares.flatten()[i] * scores.softmax(0) / 2
    return result.view(1, *grid).detach()


class Given(nn.Module):
    """A module with what it takes besides its tokens."""

    def __init__(self, inner: nn.Module, *arguments: object) -> None:
        super().__init__()
        self.inner, self.arguments = inner, arguments

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, *self.arguments)


def aim(attention: Any) -> None:
    """Let every query look for a key whose fourth channel, in each of its 2 heads, is high."""
    with torch.no_grad():
        wanted = torch.zeros(16)
        wanted[3::8] = 100.0  # no channel that TPS borrows from another frame
        for parameter in (p for name, p in attention.named_parameters() if "norm" not in name):
            parameter.zero_()
        if hasattr(attention, "qkv"):
            attention.qkv.bias[:16] = wanted
            attention.qkv.weight[16:32] = torch.eye(16)
            return
        attention.q.bias.copy_(wanted)
        (attention.kv if hasattr(attention, "kv") else attention.k).weight[:16] = torch.eye(16)
        for name in ("pool_q", "pool_k", "sr"):
            if (pool := getattr(attention, name, None)) is not None:
                pool.weight.fill_(1.0)


@pytest.mark.parametrize("place", [(0, 1, 2), (1, 2, 3), (3, 5, 1), (2, 3, 5)])
@pytest.mark.parametrize(
    "attention",
    [
        WindowAttention(16, 2, (2, 4, 4), shifted=True),
        ShiftAttention(16, 2, 4, 3, patch=True),
        ShiftAttention(16, 2, 4, 3, patch=False),
        LocalAttention(16, 2, (2, 3, 3)),
        PyramidAttention(16, 2, (1, 1, 1), None),
        PyramidAttention(16, 2, (2, 3, 3), None),
    ],
    ids=lambda a: type(a).__name__,
)
def test_it_ends_on_a_grid_where_the_attended_token_stands(attention, place):
    """Shifted windows, tokens that TPS moved to another frame, pooled keys: all are put back."""
    aim(attention)
    x = torch.zeros(1, 4, 6, 6, 16)
    x[(0, *place)][3::8] = 1.0
    (layer,) = rollout.record(attention, attention, x)
    shares = torch.full((1, 4, 6, 6), 1 / 144)
    found = rollout.propagate(layer, shares, layer.weights().mean(1))[0]
    assert found[place] == found.max()
    assert found[place] > 1.5 / 144


@pytest.mark.parametrize("place", [(0, 0, 0), (1, 2, 3), (3, 5, 1)])
@pytest.mark.parametrize(
    ("attention", "time_minor"),
    [
        (Given(_vit.TimeAttention(16, 2, 0.0), 4), True),
        (Given(_vit.SpaceAttention(16, 2, 0.0), 4), True),
        (Given(_vit.Attention(16, 2, 0.0), 4), True),
        (Given(PooledAttention(16, 2, 1, 1), (4, 6, 6)), False),
        (Given(PooledAttention(16, 2, 2, 2), (4, 6, 6)), False),
    ],
    ids=["time", "space", "joint", "unpooled", "pooled"],
)
def test_it_ends_behind_a_class_token_where_the_attended_token_stands(attention, time_minor, place):
    aim(attention.inner)
    grid = torch.zeros(4, 6, 6, 16)
    grid[place][3::8] = 1.0
    tokens = grid.permute(1, 2, 0, 3) if time_minor else grid
    x = torch.cat((torch.zeros(1, 1, 16), tokens.reshape(1, 144, 16)), dim=1)
    (layer,) = rollout.record(attention, attention, x)
    answer = torch.full(layer.shape[:2], 1 / layer.shape[1])
    found = rollout.propagate(layer, answer, layer.weights().mean(1))[0, 1:]
    found = found.view(6, 6, 4).permute(2, 0, 1) if time_minor else found.view(4, 6, 6)
    assert found[place] > 0.85 * found.max()  # keys that were pooled overlap: its neighbors have part in more of them
    assert found[place] > 1.5 / 145


def test_frames_whose_patches_were_exchanged_get_them_back():
    """TPS in a TimeSformer: rows are frames, each with its class token."""
    attention = _vit.Attention(16, 2, 0.0, TimeShift(patch=True, heads=2, grid=(6, 6)))
    aim(attention)
    x = torch.zeros(4, 37, 16)
    x[1, 1 + 2 * 6 + 3, 3::8] = 1.0
    given = Given(attention, 4)
    (layer,) = rollout.record(given, given, x)
    found = rollout.propagate(layer, torch.full((4, 37), 1 / 148), layer.weights().mean(1))
    assert found.argmax() == 37 + 1 + 2 * 6 + 3
    assert found.max() > 30 / 148


@pytest.mark.parametrize(
    ("kind", "near", "far"), [("time", (3, 2, 3), (1, 5, 5)), ("space", (1, 5, 5), (3, 2, 3))], ids=["time", "space"]
)
def test_divided_attention_reaches_along_its_axis_alone(kind, near, far):
    """The attended token at (1, 2, 3) gets all from a token at its place in another frame, or in its own frame."""
    attention = {"time": _vit.TimeAttention, "space": _vit.SpaceAttention}[kind](16, 2, 0.0)
    aim(attention)
    grid = torch.zeros(6, 6, 4, 16)
    grid[2, 3, 1, 3::8] = 1.0
    given = Given(attention, 4)
    (layer,) = rollout.record(given, given, torch.cat((torch.zeros(1, 1, 16), grid.reshape(1, 144, 16)), dim=1))
    for (t, h, w), expected in ((near, 1.0), (far, 0.0)):
        shares = torch.zeros(1, 145)
        shares[0, 1 + (h * 6 + w) * 4 + t] = 1.0
        found = rollout.propagate(layer, shares, layer.weights().mean(1))
        assert found[0, 1 + (2 * 6 + 3) * 4 + 1].item() == pytest.approx(expected, abs=1e-3)


def test_cells_share_evenly_whatever_their_sizes():
    shares = torch.rand(2, 2, 3, 1)
    found = rollout.spread(shares, (4, 7, 2))
    assert found.shape == (2, 4, 7, 2)
    torch.testing.assert_close(found.sum((1, 2, 3)), shares.sum((1, 2, 3)))
    torch.testing.assert_close(found[:, 2:, 3:5].sum((1, 2, 3)), shares[:, 1, 1, 0])
    torch.testing.assert_close(found[:, 0, 0, 0], shares[:, 0, 0, 0] / 12)


def test_heads_of_pooled_attention_are_those_of_the_class_token():
    """MViT's last layer, which does not pool by more than 1, softmaxed by hand."""
    model, clip = made("mvit/micro")
    attention: Any = model.blocks[-1].attn  # type: ignore[index]
    seen: list[Any] = []
    handle = attention.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    maps = attention_maps(model, clip, heads=True)
    handle.remove()
    x, grid = seen
    with torch.no_grad():
        q = attention.q(x[:, 0]).unflatten(-1, (attention.heads, -1))
        k = attention.norm_k(attention.pool_k(attention.k(x), grid).unflatten(-1, (attention.heads, -1)))
        weights = (torch.einsum("nhd,nshd->nhs", q, k) / q.shape[-1] ** 0.5).softmax(-1)[:, 1, 1:].view(2, 1, *grid)
    expected = torch.nn.functional.interpolate(weights, size=clip.shape[2:], mode="trilinear", align_corners=False)[
        :, 0
    ]
    low, high = expected.amin((1, 2, 3), keepdim=True), expected.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(maps["head 1"], (expected - low) / (high - low), rtol=1e-3, atol=1e-3)


def test_a_frame_of_the_factorized_vivit_counts_as_its_encoder_of_time_says():
    model, clip = made("vivit/micro")
    layers, answer = recorded(model, clip)
    frames = answer.view(2, 4, 17).sum(-1)
    slots = rollout.roll_out(
        rollout.record(model, model.temporal_blocks, clip),  # type: ignore[arg-type]
        torch.eye(5)[:1].expand(2, -1),
    )
    torch.testing.assert_close(frames[:, 1:], slots[:, 2:])
    torch.testing.assert_close(frames[:, 0], slots[:, 0] + slots[:, 1])
    assert len(layers) == len(model.blocks)  # type: ignore[arg-type]
