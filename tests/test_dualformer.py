"""DualFormer's token labels and its inflation, against the official code."""

import numpy as np
import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.models import dualformer
from reelbench.tests import golden_models as goldens

TOKENS = goldens.read("dualformer_t_tokenlabel.json")


@pytest.mark.parametrize("case", TOKENS["loss_unit"], ids=lambda case: case["post"] or "plain")
def test_token_label_loss(case):
    random, n, classes = np.random.RandomState(case["seed"]), case["n"], case["classes"]
    logits = random.standard_normal((n, classes))
    tokens = random.standard_normal((case["tokens"], classes))
    annotation = 3 * random.standard_normal((case["tokens"], classes))
    if case["post"] == "shift":
        annotation = annotation.astype(np.float32) - 12
    if case["post"] == "ties":
        annotation = annotation.astype(np.float32).round()
    tensors = [torch.from_numpy(x.astype(np.float32)) for x in (logits, tokens, annotation)]
    loss = dualformer.token_label_loss(
        tensors[0], tensors[1], torch.tensor(case["labels"]), tensors[2], gamma=case["gamma"]
    )
    assert loss.item() == pytest.approx(case["loss"], rel=1e-5)


@pytest.mark.slow  # clips through a model of full size
def test_token_labels_end_to_end():
    model = models.build("dualformer/t", token_labels=True, checkpoint=goldens.filled(TOKENS)).eval()
    assert sum(p.numel() for p in model.parameters()) == TOKENS["params"]
    labels = torch.tensor(TOKENS["input"]["labels"])
    with torch.inference_mode():
        logits, tokens = model.forward_tokens(goldens.clip(TOKENS))
        assert goldens.difference(logits.flatten()[:40], TOKENS["first_logits"]) < 1e-4
        for seed, key, expected in ((1, "annotation_shape", "loss"), (2, "annotation_twice_shape", "loss_twice")):
            noise = np.random.RandomState(seed).standard_normal(TOKENS[key])
            annotation = torch.from_numpy((3 * noise).astype(np.float32))
            loss = dualformer.token_label_loss(logits, tokens, labels, annotation)
            assert loss.item() == pytest.approx(TOKENS[expected], rel=1e-5)


def test_an_annotator_gives_what_the_student_needs():
    annotator = models.build("dualformer/micro", num_classes=9).eval()
    student = models.build("dualformer/micro", num_classes=9, token_labels=True)
    clip = torch.randn(2, 3, 8, 64, 64)
    with torch.no_grad():
        annotation = annotator.annotate(clip)
    torch.testing.assert_close(annotation.mean(dim=(1, 2, 3)), annotator(clip), rtol=1e-4, atol=1e-6)
    logits, tokens = student.forward_tokens(clip)
    dualformer.token_label_loss(logits, tokens, torch.tensor([3, 4]), annotation).backward()
    assert all(p.grad is not None for p in student.parameters())
    with pytest.raises(UserError, match="token_labels=True"):
        annotator.forward_tokens(clip)


@pytest.mark.slow  # builds and fills a model of full size
def test_inflation():
    golden = goldens.read("dualformer_t_inflate2d.json")
    model = models.build("dualformer/t", pretrained=goldens.filled(golden, "state_dict_2d")).eval()
    state = model.backbone.state_dict()
    for key, (total, squares) in golden["state_dict_3d"].items():
        if not key.endswith("num_batches_tracked"):
            assert state[key].double().sum().item() == pytest.approx(total, rel=1e-4, abs=1e-4), key
            assert state[key].double().square().sum().item() == pytest.approx(squares, rel=1e-4), key
    with torch.inference_mode():
        pooled = model.backbone(goldens.clip(golden)).mean(dim=(2, 3, 4))
    assert goldens.difference(pooled, golden["pooled"]) < 1e-4


def test_a_sixteen_frame_model_starts_from_a_thirty_two_frame_one():
    with torch.device("meta"):
        long, short = models.build("dualformer/t"), models.build("dualformer/t_16f")
    left_out = models.init_from(short.to_empty(device="cpu"), long.to_empty(device="cpu").state_dict()).left
    left_out = [key for key in left_out if not key.startswith("cls_head.")]
    assert len(left_out) == 9
    assert all(key.endswith(("attn.sr.weight", "attn.lr.3.weight")) for key in left_out)


def test_a_size_off_the_grid_is_named():
    with torch.device("meta"):
        model = models.build("dualformer/t")
        with pytest.raises(UserError, match="multiples of 224"):
            model(torch.empty(1, 3, 32, 256, 256))
