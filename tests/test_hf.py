"""Models of transformers give transformers' own logits, and its TimeSformer is ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness.explain import maps
from reelbench.models import hf
from reelbench.pipelines.index import Index
from reelbench.spec import Case, Suite

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install .[hf]")

TINY = {"image_size": 32, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}
CLASSES = tuple(f"action {number}" for number in range(5))
CONFIGS = {
    "timesformer": {**TINY, "num_hidden_layers": 2, "patch_size": 8, "num_frames": 8},
    "vivit": {**TINY, "tubelet_size": [2, 8, 8], "num_frames": 4},
    "videomae": {**TINY, "patch_size": 8, "num_frames": 4},
    "vjepa2": {
        "patch_size": 8, "crop_size": 32, "frames_per_clip": 4, "hidden_size": 48, "num_hidden_layers": 1,
        "num_attention_heads": 2, "mlp_ratio": 2.0, "num_pooler_layers": 1, "pred_hidden_size": 48,
        "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1,
    },
}  # fmt: skip


def test_pixels_are_normalized_as_the_processor_does():
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    mean, std = hf.normalization(imagenet)
    assert mean == pytest.approx((123.675, 116.28, 103.53))
    assert std == pytest.approx((58.395, 57.12, 57.375))
    vivit = {"image_processor_type": "VivitImageProcessor", "rescale_factor": 1 / 127.5, "do_normalize": False}
    mean, std = hf.normalization(vivit)
    assert [(pixel - mean[0]) / std[0] for pixel in (0, 255)] == pytest.approx([-1, 1])


@pytest.fixture(params=CONFIGS)
def kind(request) -> str:
    return request.param


def folder(path: Path, kind: str, *, weights: bool, classes: Sequence[str] = CLASSES) -> Path:
    """Write a tiny model into a folder, as transformers saves it."""
    path.mkdir(exist_ok=True)
    labels = dict(enumerate(classes))
    config = transformers.AutoConfig.for_model(kind, **CONFIGS[kind], id2label=labels, label2id={})
    if weights:
        torch.manual_seed(0)
        model = transformers.AutoModelForVideoClassification.from_config(config)
        for parameter in model.parameters():  # its zeros would hide what is exchanged
            torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(path)
    else:
        config.save_pretrained(path)
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "size": {"shortest_edge": 40}}
    (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def clip_of(name: str, count: int = 2) -> torch.Tensor:
    clip = models.choose_clip(name, None)
    return torch.randn(count, 3, clip.frames, clip.size, clip.size, generator=torch.Generator().manual_seed(1))


def test_logits_are_those_of_transformers(kind, tmp_path):
    name = f"hf:{folder(tmp_path, kind, weights=True)}"
    clip = clip_of(name)
    original = transformers.AutoModelForVideoClassification.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        expected = original(clip.transpose(1, 2)).logits
        for built in (models.build(name, num_classes=5), models.build(name, num_classes=5, checkpoint=tmp_path)):
            assert (built.eval()(clip) - expected).abs().max() < 1e-5
    assert expected.std() > 1e-2
    found = models.find(name)
    assert found.classes == CLASSES
    assert (found.num_classes, found.clip.size, found.clip.short_side) == (5, 32, 40)
    assert (found.clip.mean[0], found.clip.std[0]) == pytest.approx((127.5, 63.75))
    assert found.clip.frames == (8 if kind == "timesformer" else 4)


def test_the_same_weights_in_our_timesformer_give_the_same_logits(tmp_path):
    name = f"hf:{folder(tmp_path, 'timesformer', weights=True)}"
    ours = models.build("timesformer/micro", num_classes=5, checkpoint=tmp_path).eval()
    theirs = models.build(name, num_classes=5).eval()
    clip = clip_of(name)
    with torch.inference_mode():
        torch.testing.assert_close(ours(clip), theirs(clip), rtol=1e-5, atol=1e-5)


def test_a_configuration_alone_gives_random_weights(kind, tmp_path):
    name = f"hf:{folder(tmp_path, kind, weights=False)}"
    models.check_clip(name, models.choose_clip(name, None))
    a, b = (models.build(name, num_classes=3).state_dict() for _ in range(2))
    assert any(not torch.equal(a[key], b[key]) for key in a)


def test_another_number_of_classes_keeps_the_backbone(kind, tmp_path):
    name = f"hf:{folder(tmp_path, kind, weights=True)}"
    own, other = (models.build(name, num_classes=count).state_dict() for count in (5, 3))
    changed = {key for key in own if own[key].shape != other[key].shape}
    assert {key.rpartition(".")[0] + "." for key in changed} == set(models.find(name).head)
    assert all(torch.equal(own[key], other[key]) for key in own if key not in changed)
    assert models.count_classes(name, tmp_path) == 5


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_probe_sees_the_backbone_alone(kind, pretrained, tmp_path, capsys):
    """Neither the pooler of V-JEPA 2 nor VideoMAE's first token: pre-trained backbones have only their tokens."""
    folder(tmp_path, kind, weights=True)
    backbone = transformers.AutoModelForVideoClassification.from_pretrained(tmp_path).base_model.eval()
    if pretrained:
        backbone.save_pretrained(tmp_path)
    more = {"skip_predictor": True} if kind == "vjepa2" else {}
    name = f"hf:{tmp_path}"
    clip = clip_of(name)
    with torch.no_grad():
        tokens = backbone(clip.transpose(1, 2), **more).last_hidden_state
        pooled = tokens[:, 0] if kind in ("timesformer", "vivit") else tokens.mean(1)
        for probe, expected in (("linear", pooled), ("attentive", tokens)):
            built = models.build(name, num_classes=3, probe=probe).eval()
            torch.testing.assert_close(built.encoder(clip), expected, rtol=1e-5, atol=1e-5)
            assert built(clip).shape == (2, 3)
    said = {"videomae": "fc_norm.* start random", "vjepa2": "pooler.* start random"}.get(kind, "")
    assert bool(said and said in capsys.readouterr().err) == bool(said and pretrained)


def test_weights_that_another_clip_does_not_fit_are_named(tmp_path):
    name = f"hf:{folder(tmp_path, 'vivit', weights=True)}"
    with pytest.raises(UserError, match="its weights do not fit the model of this clip: .*position_embeddings"):
        models.build(name, size=64)


def test_a_suite_takes_a_folder_from_here(tmp_path, monkeypatch):
    from reelbench.harness.suites import sweep

    folder(tmp_path / "weights", "vivit", weights=False)
    monkeypatch.chdir(tmp_path)
    made = Suite(name="s", description="", cases=(Case(model="hf:weights", metrics=("parameters",)),))
    assert sweep.resolve_cases(made, "cpu", ())[0].model == f"hf:{tmp_path}/weights"


@pytest.mark.parametrize("kind", ["timesformer", "vivit", "videomae"])
def test_grad_cam_knows_where_the_patches_are(kind, tmp_path):
    name = f"hf:{folder(tmp_path, kind, weights=True)}"
    model = models.build(name, num_classes=5).eval()
    blocks = next(path for path, module in model.named_modules() if isinstance(module, torch.nn.ModuleList))
    layer = f"{blocks}.-2"  # after the last one only the class token matters
    heat, _ = maps.grad_cam(model, clip_of(name), layer=layer)
    assert heat.shape == clip_of(name)[:, 0].shape
    assert heat.std() > 0


def test_its_own_weights_are_tested(tmp_path, tiny_synthetic, reelbench):
    """Without a checkpoint, on classes that are called as in its configuration."""
    path, index = tiny_synthetic["test"], Index.load(tiny_synthetic["test"])
    name = f"hf:{folder(tmp_path, 'vivit', weights=True, classes=[c.title().replace('_', ' ') for c in index.classes])}"
    code, printed, said = reelbench("eval", name, "--data", path, "--device", "cpu", "--workers", 1)
    assert code == 0, said
    assert "top1" in printed
    other = f"hf:{folder(tmp_path / 'other', 'vivit', weights=True, classes=[*index.classes[::-1]])}"
    code, _, said = reelbench("eval", other, "--data", path, "--device", "cpu")
    assert code == 2
    assert f"class 0 is '{index.classes[0]}', and was '{index.classes[-1]}' in training" in said
    code, _, said = reelbench("eval", "tsm/micro", "--data", path, "--device", "cpu")
    assert code == 2
    assert "tsm/micro has no weights of its own here: give a checkpoint" in said


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "vit"}, "is a vit, which classifies no videos: take a model of timesformer, videomae"),
        ({"model_type": "bert"}, "is a bert, which classifies no videos"),
        ({"model_type": "strange", "auto_map": {"AutoConfig": "code.C"}}, "cannot be read"),
        ({}, "cannot be read"),
    ],
)
def test_a_folder_of_another_kind(config, said, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text("raise SystemExit('this was run')")
    with pytest.raises(UserError, match=said) as raised:
        models.find(f"hf:{tmp_path}")
    assert "\n" not in str(raised.value)


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(UserError, match="there is no config.json in it"):
        models.find(f"hf:{tmp_path}")
