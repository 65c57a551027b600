"""Objectives: mixed and soft labels, token labels, masked features, linear probes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness.training import losses
from reelbench.spec import Recipe

DRAW = losses.Draw(seed=3, step=7, rows=(5, 1, 8, 2))


class Pixels(torch.nn.Module):
    """Logits that are means of the clip: N×3×T×H×W -> N×3."""

    def forward(self, clip):
        return clip.mean((2, 3, 4))


def clips(n: int = 4, size: int = 8) -> torch.Tensor:
    return torch.randn(n, 3, 2, size, size, generator=torch.Generator().manual_seed(0))


def objective(recipe: Recipe, model: str = "video_swin/micro", **options) -> losses.Objective:
    torch.manual_seed(0)
    variant = models.find(model)
    network = models.build(model, num_classes=8, **options)
    annotator = models.build(recipe.annotator, num_classes=8) if recipe.annotator else None
    return losses.objective(
        network, recipe, num_classes=8, clip=variant.clip, head=(str(variant.head),), annotator=annotator
    )


def test_smoothing_is_the_official_soft_target():
    clip, label = clips(), torch.tensor([0, 2, 1, 1])
    found = losses.Classify(Pixels(), Recipe(label_smoothing=0.1), 3)(clip, label, DRAW)
    target = torch.full((4, 3), 0.1 / 3)
    target[range(4), label] = 1 - 0.1 + 0.1 / 3
    expected = -(target * Pixels()(clip).log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(found, expected)


def test_soft_labels_are_taken_as_they_are():
    clip, soft = clips(), torch.tensor([[0.2, 0.3, 0.5]]).expand(4, 3)
    found = losses.Classify(Pixels(), Recipe(), 3)(clip, soft, DRAW)
    torch.testing.assert_close(found, -(soft * Pixels()(clip).log_softmax(-1)).sum(-1).mean())


def test_several_labels_get_a_binary_loss_each():
    clip, label = clips(), torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    found = losses.Classify(Pixels(), Recipe(objective="multilabel", label_smoothing=0.1), 3)(clip, label, DRAW)
    logits = Pixels()(clip)
    expected = -(label * F.logsigmoid(logits) + (1 - label) * F.logsigmoid(-logits)).mean()
    torch.testing.assert_close(found, expected)


def test_mixup_blends_clips_and_labels_alike():
    clip, label = clips(), torch.eye(4)
    mixed, target = losses.mix(clip, label, np.random.default_rng(0), Recipe(mixup=0.8))
    share = float(target[0, 0])
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * clip + (1 - share) * clip.flip(0))
    torch.testing.assert_close(target, share * label + (1 - share) * label.flip(0))


def test_cutmix_pastes_one_box_into_all_frames_and_counts_its_pixels():
    clip = clips(size=32)
    for seed in range(20):
        mixed, target = losses.mix(clip, torch.eye(4), np.random.default_rng(seed), Recipe(cutmix=1.0))
        pasted = (mixed != clip).flatten(0, 2)  # (clips colours frames) H W
        assert (pasted == pasted[0]).all()
        assert float(target[0, 0]) == pytest.approx(1 - pasted[0].float().mean().item())


def test_mixing_draws_are_functions_of_seed_and_step():
    recipe, clip, label = Recipe(mixup=0.8, cutmix=1.0), clips(), torch.tensor([0, 2, 1, 1])
    loss = losses.Classify(Pixels(), recipe, 3)
    again, other = losses.Draw(3, 7, (9, 9, 9, 9)), losses.Draw(3, 8, DRAW.rows)
    assert loss(clip, label, DRAW) == loss(clip, label, again)
    assert loss(clip, label, DRAW) != loss(clip, label, other)


def test_the_annotator_stays_frozen_and_outside():
    recipe = Recipe(objective="token_label", annotator="dualformer/micro")
    made = objective(recipe, "dualformer/micro", token_labels=True).train()
    annotator = made._annotator[0]
    before = {k: v.clone() for k, v in annotator.state_dict().items()}
    loss = made(torch.randn(2, 3, 8, 32, 32), torch.tensor([1, 2]), DRAW)
    loss.backward()
    assert not annotator.training
    assert all(torch.equal(v, before[k]) for k, v in annotator.state_dict().items())  # batch norms too
    assert not any("annotator" in name for name in made.state_dict())
    assert made.network.cls_head.token_linear[0].weight.grad.abs().sum() > 0


def test_masked_features_are_learnt_and_their_masks_repeat():
    made = objective(Recipe(objective="maskfeat"), "mvit/micro")
    clip, label = torch.randn(4, 3, 8, 32, 32), torch.zeros(4, dtype=torch.long)
    loss = made(clip, label, DRAW)
    loss.backward()
    assert loss == made(clip, label, DRAW)
    assert loss != made(clip, label, losses.Draw(3, 8, DRAW.rows))
    assert made.network.mask_token.grad.abs().sum() > 0
    assert not made.network.cls_head.weight.requires_grad
    with pytest.raises(UserError, match="pre-trains an MViT"):
        objective(Recipe(objective="maskfeat"))


def test_the_pixels_of_a_clip_are_recovered():
    made = objective(Recipe(objective="maskfeat"), "mvit/micro")
    pixels = torch.randint(0, 256, (1, 3, 2, 4, 4)).float()
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (made.clip.mean, made.clip.std))
    torch.testing.assert_close(made._pixels((pixels - mean) / std), pixels)


def test_a_linear_probe_trains_the_head_alone():
    made = objective(Recipe(linear_probe=True), "tsm/micro").train()
    before = {k: v.clone() for k, v in made.network.backbone.state_dict().items()}
    made(torch.randn(2, 3, 8, 32, 32), torch.tensor([1, 2]), DRAW).backward()
    assert {n for n, p in made.network.named_parameters() if p.grad is not None} == {
        "cls_head.fc_cls.weight", "cls_head.fc_cls.bias",
    }  # fmt: skip
    assert all(torch.equal(v, before[k]) for k, v in made.network.backbone.state_dict().items())  # statistics too
    assert made.network.cls_head.training
