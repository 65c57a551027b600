"""Which weights of a training run are tested and exported: the averaged ones where there are any, and it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness import explain
from reelbench.harness.training import checkpoints, saved_weights
from reelbench.pipelines.index import Index
from safetensors.torch import load_file, save_file

MODEL = "tsm/micro"


def weights(answer: int) -> dict[str, torch.Tensor]:
    """Return weights of a model that always answers this class."""
    torch.manual_seed(0)
    state = dict(models.build(MODEL, num_classes=8).state_dict())
    state["cls_head.fc_cls.weight"] = torch.zeros_like(state["cls_head.fc_cls.weight"])
    state["cls_head.fc_cls.bias"] = torch.eye(8)[answer]
    return state


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The checkpoints folder of a run whose trained weights answer 1, and their averages 0."""
    folder = tmp_path / "run" / "checkpoints"
    tag = checkpoints.part(folder, 3)
    checkpoints.begin(tag)
    torch.save({"module": {f"network.{k}": v for k, v in weights(1).items()}}, tag / "mp_rank_00_model_states.pt")
    names = [name for name, _ in models.build(MODEL, num_classes=8).named_parameters()]
    torch.save({name: value for name, value in weights(0).items() if name in names}, tag / "ema_0.pt")
    checkpoints.finish(tag, {"step": 3, "ranks": 2, "zero": 0})
    return folder


@pytest.mark.parametrize(
    ("options", "answer", "said"), [((), 0, "averaged weights (EMA)"), (("--raw",), 1, "trained weights")]
)
def test_every_verb_takes_the_averaged_weights_unless_told_otherwise(
    run: Path, reelbench, tiny_synthetic, tmp_path: Path, options, answer, said
):
    out = tmp_path / "out.safetensors"
    for command in (("convert", run, out, "--num-classes", 8), ("export", run, out), ("export", run / "step_3", out)):
        code, _, err = reelbench(*command, "--model", MODEL, *options)
        assert (code, f"step_3: {said}" in err) == (0, True)
        assert load_file(out)["cls_head.fc_cls.bias"].argmax() == answer
    explained = explain._load(MODEL, run, "gradcam", bool(options))
    assert explained.cls_head.fc_cls.bias.argmax() == answer
    data = ("--data", tiny_synthetic["test"], "--device", "cpu", "--workers", 1)
    code, found, err = reelbench(
        "eval", MODEL, "--checkpoint", run, *data, "--dump", tmp_path / "p.json", "--precision", "bf16", *options
    )
    assert code == 0, err
    assert f"step_3: {said}" in err
    assert "computed in bf16" in found
    assert {row["predicted"] for row in json.loads((tmp_path / "p.json").read_text())} == {answer}


def test_a_network_is_found_in_the_objective_of_its_pre_training(run: Path):
    tag = run / "step_3"
    torch.save({"module": {"maskfeat.encoder.norm.weight": torch.ones(3)}}, tag / "mp_rank_00_model_states.pt")
    torch.save({"norm.weight": torch.zeros(3)}, tag / "ema_0.pt")
    for raw, value in ((False, 0.0), (True, 1.0)):
        found = saved_weights.find(run, raw=raw)
        assert isinstance(found, dict)
        assert torch.equal(found["norm.weight"], torch.full((3,), value))


def test_averages_without_names_and_files_without_averages_are_told(run: Path, tmp_path: Path):
    averages = torch.load(run / "step_3" / "ema_0.pt")
    torch.save(list(averages.values()), run / "step_3" / "ema_0.pt")  # as an earlier version saved them
    with pytest.raises(UserError, match="do not name their weights .* --raw"):
        saved_weights.find(run)
    assert saved_weights.find(run, raw=True)
    save_file(weights(1), str(tmp_path / "best.safetensors"))
    assert saved_weights.find(tmp_path / "best.safetensors") == tmp_path / "best.safetensors"
    with pytest.raises(UserError, match="--raw: .*best.safetensors has one set of weights"):
        saved_weights.find(tmp_path / "best.safetensors", raw=True)


def test_other_classes_than_the_trained_ones_are_refused(run: Path, reelbench, tiny_synthetic):
    classes = Index.load(tiny_synthetic["test"]).classes
    for known, said in (
        ((*classes[:2], "else", *classes[3:]), f"class 2 is '{classes[2]}', and was 'else' in training"),
        ((classes[1], classes[0], *classes[2:]), f"class 0 is '{classes[0]}', and was '{classes[1]}' in training"),
        (classes[:-1], f"class 7 is '{classes[7]}', and was no class in training"),
    ):
        (run.parent / "classes.json").write_text(json.dumps(known))
        for checkpoint in (run, run / "step_3", run.parent / "best.safetensors"):
            command = ("eval", MODEL, "--checkpoint", checkpoint, "--data", tiny_synthetic["test"], "--device", "cpu")
            code, _, err = reelbench(*command)
            assert (code, said in err) == (2, True), err
