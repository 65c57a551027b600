"""What every variant of the zoo must do. The full-size ones run on the `meta` device: shapes only."""

import inspect
import re

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness import eval as eval_verb
from reelbench.harness import predict
from reelbench.spec import Views

NAMES = models.names()
MICROS = [name for name in NAMES if name.endswith("/micro")]
CLASSES = 7


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _build(name: str, **overrides) -> torch.nn.Module:
    return models.build(name, num_classes=CLASSES, **overrides)


def _clip(name: str, batch: int = 2) -> torch.Tensor:
    clip = models.find(name).clip
    return torch.randn(batch, 3, clip.frames, clip.size, clip.size)


@pytest.mark.parametrize("name", NAMES)
def test_logits_have_the_asked_shape_and_reach_every_parameter(name):
    with torch.device("meta"):
        model, clip = _build(name), _clip(name)
        logits = model(clip)
        logits.sum().backward()
    assert logits.shape == (2, CLASSES)
    unreached = {key for key, p in model.named_parameters() if p.grad is None}
    assert unreached == set(models.find(name).unused_parameters)


@pytest.mark.parametrize("name", NAMES)
def test_published_rows_and_recipes_name_what_exists(name):
    variant = models.find(name)
    with torch.device("meta"):
        model = models.build(name)
    parameters = [key for key, _ in model.named_parameters()]
    for row in variant.published:
        assert row.source
        assert row.views is None or Views.parse(row.views)
    for recipe in variant.recipes.values():
        for rules in filter(None, (recipe.lr_rules, recipe.decay_rules)):
            assert any(re.search(pattern, key) for pattern, _ in rules for key in parameters)


@pytest.mark.parametrize("family", sorted({name.partition("/")[0] for name in NAMES}))
def test_every_family_has_a_micro_below_a_million_parameters(family):
    with torch.device("meta"):
        model = models.build(f"{family}/micro")
    assert sum(p.numel() for p in model.parameters()) < 1_000_000


@pytest.mark.parametrize("name", MICROS)
def test_gradients_are_finite_and_not_zero(name):
    model = _build(name)
    with torch.no_grad():
        for parameter in model.parameters():  # some start at zero by design, and so let nothing through
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    torch.nn.functional.cross_entropy(model(_clip(name)), torch.tensor([1, 5])).backward()
    for key, parameter in model.named_parameters():
        if key not in models.find(name).unused_parameters:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.any(), key


@pytest.mark.parametrize("name", MICROS)
def test_evaluation_repeats_itself_and_treats_clips_alone(name):
    model, clip = _build(name).eval(), _clip(name, batch=3)
    with torch.inference_mode():
        together = model(clip)
        torch.testing.assert_close(model(clip), together, rtol=0, atol=0)
        torch.testing.assert_close(model(clip[:1]), together[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MICROS)
def test_it_trains_after_an_evaluation_in_inference_mode(name):
    model, clip = _build(name), _clip(name)
    with torch.inference_mode():
        model.eval()(clip)
    model.train()(clip).sum().backward()


@pytest.mark.parametrize("name", MICROS)
def test_frames_in_another_order_give_other_logits(name):
    model, clip = _build(name).eval(), _clip(name)
    with torch.inference_mode():
        backwards = model(clip.flip(2))
        assert (model(clip) - backwards).abs().max() > 1e-4 * backwards.abs().max()


@pytest.mark.parametrize("name", MICROS)
def test_bf16_autocast_stays_close(name):
    model, clip = _build(name).eval(), _clip(name)
    with torch.inference_mode():
        exact = model(clip)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(clip)
    assert rough.isfinite().all()
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("name", MICROS)
def test_state_dict_comes_back_through_a_file(name, tmp_path):
    model = _build(name).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    again = _build(name, checkpoint=tmp_path / "weights.pth").eval()
    clip = _clip(name)
    with torch.inference_mode():
        torch.testing.assert_close(again(clip), model(clip), rtol=0, atol=0)


@pytest.mark.slow  # traces a whole model
@pytest.mark.parametrize("name", MICROS)
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.exhaustive)])
@pytest.mark.filterwarnings("ignore:Dynamo detected a call:UserWarning")
def test_compiles_whole_and_computes_the_same(name, backend):
    torch.compiler.reset()
    model, clip = _build(name).eval(), _clip(name)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    logits = compiled(clip)
    torch.testing.assert_close(logits, model(clip), rtol=1e-4, atol=1e-5)
    logits.sum().backward()


@pytest.mark.slow  # generates and compiles C++
@pytest.mark.exhaustive
def test_inductor_generates_code_that_computes_the_same():
    torch.compiler.reset()
    model, clip = _build("vivit/micro").eval(), _clip("vivit/micro")
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True)(clip)
        torch.testing.assert_close(compiled, model(clip), rtol=1e-4, atol=1e-5)


CHECKPOINTED = [n for n in MICROS if "checkpoint_activations" in inspect.signature(models.find(n).build).parameters]


def test_the_transformers_can_checkpoint_their_activations():
    assert "video_swin/micro" in CHECKPOINTED


@pytest.mark.parametrize("name", CHECKPOINTED)
def test_checkpointed_activations_give_the_same_gradients(name):
    plain = _build(name)
    saving = _build(name, checkpoint_activations=True, checkpoint=plain.state_dict())
    clip = _clip(name)
    for model in (plain, saving):
        torch.manual_seed(1)
        model.train()(clip).square().sum().backward()
    for (key, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6, msg=key)


def test_an_unknown_name_answers_with_near_ones():
    with pytest.raises(UserError, match="did you mean 'tsm/r50_8f'"):
        models.build("tsm/r5_8f")


@pytest.mark.parametrize("name", MICROS)
def test_a_misspelt_option_is_named(name):
    with pytest.raises(UserError, match="num_clases"):
        models.build(name, num_clases=3)


def test_other_views_keep_the_sizes_of_the_protocol():
    assert models.choose_views("video_swin/t", None) == models.find("video_swin/t").views
    assert models.choose_views("video_swin/t", "10x1") == Views(clips=10, crops=1, short_side=224)
    assert models.choose_views("tsm/r101_8f", "1x1") == Views(size=256)
    with pytest.raises(UserError, match="write clips x crops"):
        models.choose_views("video_swin/t", "4x2")


def test_the_commands_test_at_the_sizes_of_the_protocol(reelbench, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(eval_verb, "evaluate_checkpoint", lambda given: asked.append(given.views) or {})
    monkeypatch.setattr(predict, "predict", lambda given, files: asked.append(given.views) or [])
    monkeypatch.setattr(predict, "to_text", lambda found: "")
    given = ("--checkpoint", "w.safetensors", "--views", "2x3", "--device", "cpu")
    assert reelbench("eval", "video_swin/t", *given, "--data", tmp_path)[0] == 0
    assert reelbench("predict", "video_swin/t", tmp_path, *given)[0] == 0
    assert asked == 2 * [Views(clips=2, crops=3, short_side=224)]
