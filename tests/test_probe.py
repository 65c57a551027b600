"""Probes on frozen encoders: whose features they see, what is kept on disk, and that their results are marked."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import reelbench
import torch
import torch.nn.functional as F
from reelbench import models, reports
from reelbench.errors import UserError
from reelbench.harness.probe import features, store
from reelbench.harness.suites import case as cases
from reelbench.harness.training.job import PROBE
from reelbench.models._probe import AttentiveProbe
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import encode
from reelbench.pipelines.index import Index
from reelbench.result import Metric, Result
from reelbench.spec import Case, Clip, Views
from safetensors.torch import load_file

MICROS = sorted(name for name in models.names() if name.endswith("/micro"))
SOME = ("tsm/micro", "timesformer/micro", "video_swin/micro")  # frames of planes, a class token, pooled tokens
COLORS = ((220, 40, 40), (40, 200, 40), (40, 40, 220), (200, 200, 40))
MINE = """
import torch
from torch import nn
from reelbench.spec import Clip

CLIP = Clip(frames=4, size=32, short_side=32)

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 12, 3, stride=2, padding=1), nn.ReLU())
        self.fc = nn.Linear(12, num_classes)
    def forward(self, clip):
        return self.fc(self.stem(clip).mean((2, 3, 4)))

class Bare(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, num_classes))
    def forward(self, clip):
        return clip.mean((2, 3, 4)) @ self.weight

class FramesFirst(Net):
    def forward(self, clip):
        frames = clip.permute(2, 0, 1, 3, 4).flatten(0, 1)[:, :, None]
        return self.fc(self.stem(frames).mean((2, 3, 4))).unflatten(0, (clip.shape[2], -1)).mean(0)

def net(num_classes=8): return Net(num_classes)
def bare(num_classes=8): return Bare(num_classes)
def frames_first(num_classes=8): return FramesFirst(num_classes)
def pooled(num_classes=8): return nn.Sequential(nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(24, num_classes))
"""


@pytest.fixture(scope="module")
def colored(tmp_path_factory) -> Path:
    """A folder of indexes: 12 videos to train on and 8 to test with, each class of one color; and `mine.py`."""
    root, rng = tmp_path_factory.mktemp("colored"), np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 8), ("test", 8)):
        entries = []
        for number in range(count):
            noise = rng.integers(-40, 40, (5, 9, 9, 3)).repeat(8, 1).repeat(8, 2)
            frames = np.clip(np.array(COLORS[number % 4]) + noise, 0, 255).astype(np.uint8)
            encode(root / f"{split}_{number}.webm", frames, codec="vp9", fps=25, gop=8)
            entries.append((f"{split}_{number}.webm", number % 4))
        indexing.build(entries, ("red", "green", "blue", "yellow"), root, workers=0).save(root / f"{split}.parquet")
    (root / "mine.py").write_text(MINE)
    return root


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(kept, monkeypatch) -> None:
    monkeypatch.setenv("REELBENCH_CACHE", str(kept))


def train(colored: Path, out: Path, **options) -> Path:
    recipe = dataclasses.replace(PROBE, epochs=60, lr=0.05, validate_epochs=30)
    return reelbench.train(
        f"{colored}/mine.py:net", colored / "train.parquet", out=out, device="cpu", workers=1,
        **{"probe": "linear", "recipe": recipe, "validation": colored / "val.parquet", **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(colored, kept, tmp_path_factory) -> Path:
    """The weights of a linear probe, whose features are then kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REELBENCH_CACHE", str(kept))
        return train(colored, tmp_path_factory.mktemp("trained"))


def micro(name: str, **options) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    clip = models.find(name).clip
    assert clip is not None
    model = models.build(name, num_classes=5, **options).eval()
    shape = (2, 3, clip.frames, clip.size, clip.size)
    return model, torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SOME else pytest.mark.exhaustive) for n in MICROS])
def test_features_are_what_the_classifier_is_given(name):
    whole, clip = micro(name)
    probed, _ = micro(name, probe="linear")
    last = [module for module in whole.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        pooled = probed.encoder(clip)
        torch.testing.assert_close(F.linear(pooled, last.weight, last.bias), whole(clip), rtol=1e-4, atol=1e-5)
        tokens = micro(name, probe="attentive")[0].encoder(clip)
    assert tokens.shape[::2] == pooled.shape
    assert tokens.shape[1] > 1
    if name == "timesformer/micro":  # its norm is after the class token was picked
        torch.testing.assert_close(whole.norm(tokens[:, 0]).detach(), pooled, rtol=1e-4, atol=1e-5)
    elif name in SOME:
        torch.testing.assert_close(tokens.mean(1), pooled, rtol=1e-4, atol=1e-5)


def test_the_encoder_stays_as_it_is():
    model, clip = micro("tsm/micro", probe="linear")
    model.train()
    before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    model(clip).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in model.encoder.state_dict().items())
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        "probe.linear.weight",
        "probe.linear.bias",
    }


def test_the_attentive_probe_is_attention_by_its_formula():
    torch.manual_seed(0)
    probe = AttentiveProbe(128, 3)
    for parameter in probe.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tokens = torch.randn(2, 7, 128)
    normed = F.layer_norm(tokens, (128,), probe.norm.weight, probe.norm.bias)
    given = probe.query.expand(2, -1, -1), normed, normed
    weight, bias = probe.attention.in_proj_weight.chunk(3), probe.attention.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b).unflatten(-1, (2, 64)).transpose(1, 2) for x, w, b in zip(given, weight, bias, strict=True)
    )
    mixed = ((q @ k.transpose(-1, -2) / 8).softmax(-1) @ v).transpose(1, 2).flatten(2)
    pooled = probe.query + F.linear(mixed, probe.attention.out_proj.weight, probe.attention.out_proj.bias)
    hidden = F.gelu(probe.mlp.fc1(F.layer_norm(pooled, (128,), probe.mlp_norm.weight, probe.mlp_norm.bias)))
    expected = probe.linear(pooled + probe.mlp.fc2(hidden))[:, 0]
    torch.testing.assert_close(probe(tokens), expected, rtol=1e-4, atol=1e-4)


def test_a_linear_probe_is_the_plain_computation_on_what_is_kept(trained, kept, colored):
    (place,) = [path.parent for path in kept.glob("features/*/facts.json") if '"shape": [\n  12' in path.read_text()]
    x = torch.from_file(str(place / "values.bin"), size=12 * 12).view(12, 12)
    label = torch.arange(12) % 4
    state, log = load_file(trained), [json.loads(line) for line in (trained.parent / "train.jsonl").open()]
    torch.manual_seed(0)
    linear = torch.nn.Linear(12, 4)
    torch.nn.init.trunc_normal_(linear.weight, std=0.01)
    torch.nn.init.zeros_(linear.bias)
    groups = [{"params": [linear.weight], "weight_decay": 0.01}, {"params": [linear.bias], "weight_decay": 0.0}]
    steps = torch.optim.AdamW(groups, lr=0.05)
    standard = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-6).sqrt()
    for step, row in enumerate(log):
        for group in steps.param_groups:
            group["lr"] = 0.05 * 0.5 * (1 + np.cos(np.pi * step / 60))
        loss = F.cross_entropy(linear(standard), label)
        assert loss.item() == pytest.approx(row["loss"], rel=1e-3, abs=1e-5)
        steps.zero_grad()
        loss.backward()
        steps.step()
    assert len(log) == 60
    torch.testing.assert_close(state["probe.mean"], x.mean(0), rtol=1e-5, atol=1e-6)
    scored = [json.loads(line) for line in (trained.parent / "validation.jsonl").open()]
    assert max(row["top1"] for row in scored) > 2 * 25


def test_the_result_is_a_checkpoint_of_the_same_address(trained, colored, reelbench):
    code, printed, said = reelbench(
        "eval", f"{colored}/mine.py:net", "--checkpoint", trained, "--data", colored / "val.parquet", "--views", "2x3",
        "--device", "cpu", "--workers", 1,
    )  # fmt: skip
    assert code == 0, said
    assert "2x3 views, 8 videos" in printed
    top1 = float(printed.split()[1])
    assert top1 > 2 * 25
    built = models.build(f"{colored}/mine.py:net", num_classes=4, checkpoint=trained)
    assert sorted(built.state_dict()) == sorted(load_file(trained))


def test_a_second_run_takes_what_is_kept(trained, colored, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(features, "_compute", None)  # computing anything would fail
    again = train(colored, tmp_path)
    assert "features are there from an earlier run: 576 B in " in capsys.readouterr().err
    assert again.read_bytes() == trained.read_bytes()


def test_what_is_damaged_is_computed_again(trained, kept, colored, tmp_path, monkeypatch, capsys):
    """Of the training videos' features the end is cut off, those of the others are said to be of another index."""
    shutil.copytree(kept, tmp_path / "cache")
    monkeypatch.setenv("REELBENCH_CACHE", str(tmp_path / "cache"))
    for facts in tmp_path.glob("cache/features/*/facts.json"):
        values = facts.with_name("values.bin")
        if '"shape": [\n  12' in facts.read_text():
            values.write_bytes(values.read_bytes()[:-4])
        else:
            facts.write_text(facts.read_text().replace('"index": "', '"index": "0'))
    left = tmp_path / f"cache/features/.left@{store.socket.gethostname()}.{2**22 + 1}"  # of a killed process
    left.mkdir()
    again = train(colored, tmp_path / "out")
    assert capsys.readouterr().err.count("is damaged: its features are computed again") == 2
    assert again.read_bytes() == trained.read_bytes()
    assert len([*tmp_path.glob("cache/features/*")]) == 2


def test_other_weights_have_other_features(trained, colored, tmp_path, capsys):
    train(colored, tmp_path, seed=1, validation=None)  # the encoder's weights are random
    said = capsys.readouterr().err
    assert "has random weights: a probe on them shows what the architecture alone gives" in said
    assert "features of 12 videos, 1 views of 12: 576 B in " in said


@pytest.mark.slow  # a case in its process
def test_a_case_trains_a_probe_and_its_row_says_frozen(colored, tmp_path):
    recipe = dataclasses.replace(PROBE, lr=0.01, validate_epochs=20)
    case = Case(
        model=f"{colored}/mine.py:net", data=str(colored), probe="attentive", recipe=recipe, metrics=("accuracy",),
        views=Views(clips=2), workers=1,
    )  # fmt: skip
    result = cases.run(case, tmp_path, lambda event: None)
    assert result.status == "ok", result.error
    assert result.metrics["top1"].value >= 25
    assert result.case.label.endswith("mine.py:net (frozen, attentive probe)")
    best = tmp_path / "train" / case.case_id / "best.safetensors"
    index = Index.load(colored / "test.parquet")
    assert cases._read(case, best, index) is not None  # a case that names it as its checkpoint tests it
    with pytest.raises(UserError, match="holds a probe: write probe='attentive' in the case, so that reports call it"):
        cases._read(dataclasses.replace(case, probe=None), best, index)


@pytest.mark.parametrize("kind", ["terminal", "markdown", "html", "latex", "csv"])
def test_every_report_marks_what_is_frozen(kind):
    metric = {"top1": Metric(value=50.0, unit="%"), "latency_ms": Metric(value=1.0, unit="ms")}
    for probe in ("linear", None):
        case = Case(model="tsm/micro", probe=probe, checkpoint="weights.pth", metrics=("accuracy", "latency"))
        result = Result(case=case, status="ok", started="2026", seconds=1.0, metrics=metric)
        text = reports.render([result], kind)
        mark = ",tsm/micro,linear," if kind == "csv" else "(frozen, linear"  # the terminal folds it there
        assert (mark in str(text)) == (probe is not None)
    assert "probe" not in case.to_json()  # ids of earlier results stay


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--probe", "atentive"], "unknown --probe 'atentive': did you mean 'attentive'?"),
        (["--probe", "linear", "--mixup", "0.8"], "--mixup has no meaning with --probe"),
        (["--probe", "linear", "--zero", "2"], "--zero has no meaning with --probe"),
        (["--probe", "linear", "--resume"], "--resume has no meaning with --probe"),
        (["--probe", "linear", "--gpus", "2"], "a probe is trained in one process: leave --gpus"),
        (["--probe", "linear", "--train-views", "2x2"], "views '2x2': write clips x crops"),
        (["--train-views", "2x3"], "--train-views belongs to --probe"),
    ],
)
def test_options_without_meaning_are_refused(options, said, tiny_synthetic, tmp_path, reelbench):
    line = ["train", "tsm/micro", "--data", tiny_synthetic["train"], "--out", tmp_path / "out", "--device", "cpu"]
    code, _, printed = reelbench(*line, *options)
    assert code == 2
    assert said in printed


@pytest.mark.parametrize(
    ("function", "probe", "said"),
    [
        ("bare", "linear", "its classifier is not found, so neither are its features: give the network a method"),
        ("pooled", "attentive", "no tokens of width 24 are found before its classifier: take --probe linear, or give"),
        ("net", "lineal", "unknown probe 'lineal': did you mean 'linear'?"),
    ],
)
def test_features_that_are_not_found(function, probe, said, colored):
    with pytest.raises(UserError, match=said) as raised:
        models.build(f"{colored}/mine.py:{function}", num_classes=4, probe=probe)
    assert "\n" not in str(raised.value)


def test_features_that_mix_clips_are_refused(colored):
    name = f"{colored}/mine.py:frames_first"
    encoder, clip = models.build(name, num_classes=4, probe="attentive").encoder, torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad(), pytest.raises(UserError, match="mix the clips of a batch: give the network a method token_e"):
        features._check_rows(encoder, clip, encoder(clip), name)


def test_a_disk_that_is_too_small_is_told_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(store.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with (
        pytest.raises(UserError, match="features take 576 B, and .* has 10 B free: set REELBENCH_CACHE"),
        store.part_of(tmp_path / "features" / "key") as part,
    ):
        store.allocate(part, (12, 1, 12), torch.float32)
    assert "features of 12 videos, 1 views of 12: 576 B in " in capsys.readouterr().err
    assert not [*tmp_path.glob("features/*"), *tmp_path.glob("features/.*")]


def test_a_token_encoder_is_asked_first():
    class Encoder(torch.nn.Module):
        def forward(self, clip):
            return clip.mean((3, 4)).transpose(1, 2)  # N T 3

        def pool(self, tokens):
            return tokens[:, -1]

    class Net(torch.nn.Module):
        variant_name = "tsm/micro"

        def token_encoder(self):
            return Encoder()

    clip = torch.randn(2, 3, 4, 8, 8)
    shown = Clip(frames=4, size=8, short_side=8)
    pooled = models.add_probe(Net(), "linear", num_classes=2, clip=shown).encoder(clip)
    assert torch.equal(pooled, clip.mean((3, 4))[:, :, -1])
    assert models.add_probe(Net(), "attentive", num_classes=2, clip=shown).encoder(clip).shape == (2, 4, 3)
