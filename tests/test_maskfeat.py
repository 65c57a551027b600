"""MaskFeat: the official masks, targets and losses to the digit, and a pre-training that learns."""

import math
import random

import numpy as np
import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.models.maskfeat import MaskFeat, center_loss, centers, draw_mask, hog_targets
from reelbench.tests import golden_models as goldens

GOLDEN = goldens.read("maskfeat.json")


def smooth(t: int) -> np.ndarray:
    """Return frame t of the goldens' drawn clip, uint8 `H W 3`."""
    yy, xx = np.mgrid[0:224, 0:224]
    red = np.floor(128 + 100 * np.sin(2 * np.pi * (xx + 3 * t) / 37) * np.cos(2 * np.pi * yy / 53))
    green = np.floor(128 + 100 * np.sin(2 * np.pi * (0.6 * xx + 0.8 * yy + 5 * t) / 41))
    return np.stack([red, green, (xx * yy // 7 + 11 * t) % 256], axis=-1).astype(np.uint8)


IMAGES = {
    "noise0": lambda: np.random.RandomState(0).randint(0, 256, (4, 224, 224, 3)).astype(np.uint8)[0],
    "smooth0": lambda: smooth(0),
    "smooth3": lambda: smooth(3),
}


@pytest.mark.parametrize("sample", GOLDEN["masks"], ids=lambda sample: f"seed{sample['seed']}")
def test_masks_are_the_official_ones(sample):
    rng = random.Random(sample["seed"])
    mask = draw_mask(rng)
    assert mask.patches.flatten().nonzero().flatten().tolist() == sample["ones"]
    assert [list(cube) for cube in mask.cubes] == sample["cube_marker"]
    assert rng.random() == sample["next_random"]


def test_masks_hide_the_official_share():
    rng = random.Random(123)
    shares = [draw_mask(rng).patches.float().mean().item() for _ in range(2000)]
    assert np.mean(shares) == pytest.approx(GOLDEN["mask_stats"]["mean_masked_fraction"], abs=1e-6)
    assert min(shares) == pytest.approx(GOLDEN["mask_stats"]["min"], abs=1e-6)


@pytest.mark.parametrize("grid", [(4, 2, 2), (4, 4, 4), (8, 7, 7)])
def test_a_small_grid_is_masked_too(grid):
    shares = [draw_mask(random.Random(seed), grid).patches.float().mean().item() for seed in range(200)]
    assert 0.05 < min(shares) <= max(shares) < 0.16


@pytest.mark.parametrize("golden", GOLDEN["hog"], ids=lambda golden: golden["name"])
def test_targets_are_the_official_ones(golden):
    target = hog_targets(torch.from_numpy(IMAGES[golden["name"]]()).permute(2, 0, 1), 16)
    assert list(target.shape) == golden["shape"]
    assert target.double().sum().item() == pytest.approx(golden["sum"], abs=1e-3)
    for row, column in ((0, 0), (7, 5), (13, 13)):
        np.testing.assert_allclose(target[row, column].numpy(), golden[f"patch_{row}_{column}"], atol=5e-7)
    np.testing.assert_allclose(target.mean((0, 1)).numpy(), golden["channel_means_108"], atol=5e-7)


def test_targets_of_a_batch_are_those_of_its_images():
    images = torch.randint(0, 256, (2, 3, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = hog_targets(images, 16)
    assert together.shape == (2, 3, 2, 3, 108)
    torch.testing.assert_close(together[1, 2], hog_targets(images[1, 2], 16))
    assert not hog_targets(torch.full((3, 32, 32), 77), 16).any()


def test_gradients_vote_for_their_orientation():
    yy, xx = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    for degrees in range(5, 180, 10):  # the gradient points there, away from the edges of the bins
        angle = math.radians(degrees)
        image = (1000 * (math.cos(angle) * xx + math.sin(angle) * yy)).expand(3, -1, -1)
        votes = hog_targets(image, 16).view(4, 3, 9).sum((0, 1))
        assert votes.argmax() == degrees // 20


def test_the_loss_of_given_predictions_is_the_official_one():
    golden = GOLDEN["headless"]
    tokens = np.random.RandomState(7).standard_normal((2, 1569, 216)).astype(np.float32)
    target = torch.from_numpy(np.random.RandomState(8).standard_normal((2, 16, 14, 14, 108)))
    prediction = torch.from_numpy(tokens[:, 1:].reshape(2, 8, 14, 14, 2, 108)).movedim(4, 2).flatten(1, 2)
    masks = [draw_mask(random.Random(seed)) for seed in golden["mask_seeds"]]
    center = centers(masks, slot_frames=2)
    mask = torch.stack([m.patches for m in masks])
    loss = center_loss(prediction, target[center[:, 0], center[:, 1]], mask, center)
    assert loss.item() == pytest.approx(golden["loss"], rel=1e-6)


@pytest.mark.slow  # clips through a model of full size
def test_the_model_predicts_and_loses_as_the_official_one():
    encoder = models.build("mvit/b_16x4_maskfeat")
    assert all(key.startswith("cls_head.") for key in models.init_from(encoder, goldens.filled(GOLDEN)).left)
    model = MaskFeat(encoder).eval()
    head = sum(p.numel() for p in encoder.cls_head.parameters())
    assert sum(p.numel() for p in model.parameters()) - head == GOLDEN["params"]
    first = goldens.clip(GOLDEN)
    second = torch.from_numpy(np.random.RandomState(1).standard_normal(first.shape).astype(np.float32))
    frames = torch.from_numpy(np.stack([smooth(t) for t in range(16)])).permute(3, 0, 1, 2).expand(2, -1, -1, -1, -1)
    with torch.inference_mode():
        masks = [draw_mask(random.Random(seed)) for seed in (0, 1)]
        loss = model.loss(torch.cat((first, second)), frames, masks)
        assert loss.item() == pytest.approx(GOLDEN["batch2"], rel=1e-5)
        for case in GOLDEN["cases"][2:]:
            mask = draw_mask(random.Random(case["mask_seed"]))
            assert sorted(centers([mask], 2)[:, 1].tolist()) == case["center_frames"]
            prediction = model(first, mask.patches[None])
            for at in case["pred_at"]:
                found = prediction[0, at["frame"], at["h"], at["w"]]
                torch.testing.assert_close(found, torch.tensor(at["values"]), rtol=1e-4, atol=1e-4)
            assert model.loss(first, frames[:1], [mask]).item() == pytest.approx(case["loss"], rel=1e-5)


def test_pre_training_learns_and_reaches_what_fine_tuning_does_not():
    torch.manual_seed(0)
    rng = random.Random(0)
    encoder = models.build("mvit/micro")
    model = MaskFeat(encoder)
    frames = torch.randint(0, 256, (2, 3, 8, 4, 4)).float().repeat_interleave(8, dim=3).repeat_interleave(8, dim=4)
    masks = [draw_mask(rng, model.grid) for _ in range(2)]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for _ in range(12):
        loss = model.loss(frames / 255 - 0.5, frames, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    for name in models.find("mvit/micro").unused_parameters:
        assert encoder.get_parameter(name).grad.any(), name


def test_an_encoder_with_another_target_width_is_refused():
    with torch.device("meta"), pytest.raises(UserError, match="set feature_dim="):
        MaskFeat(models.build("mvit/b_16x4"))


def test_an_encoder_loads_under_the_names_that_pre_training_saves():
    state = models.build("mvit/micro").state_dict()
    saved = {f"module.maskfeat.encoder.{key}": value for key, value in state.items()}
    model = models.build("mvit/micro", checkpoint=saved)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
