"""The video models of torchvision, with their weights' clips and accuracies."""

from __future__ import annotations

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError

try:
    import torchvision
except Exception as error:  # one for another torch does not import
    pytest.skip(f"torchvision does not import here ({error}): pip install .[torchvision]", allow_module_level=True)

NAMES = torchvision.models.list_models(module=torchvision.models.video)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_takes_its_clip_and_says_what_was_published(name):
    address = f"torchvision:{name}"
    found = models.find(address)
    if name != "s3d":  # 128 frames of 224 pixels, as published: shapes alone take a while
        models.check_clip(address, found.clip)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    assert max(row.top1 for row in found.published) >= weights.meta["_metrics"]["Kinetics-400"]["acc@1"]
    assert found.clip.mean == pytest.approx([255 * value for value in weights.transforms().mean])
    assert len(found.head) == 1
    model = models.outline(address)
    assert sum(p.numel() for p in model.parameters()) == weights.meta["num_params"]


def test_published_test_protocols_are_read():
    found = models.find("torchvision:swin3d_t")
    assert (found.clip.frames, found.clip.stride, found.views.clips, found.clip.size) == (32, 2, 12, 224)
    assert found.published[0].top1 == pytest.approx(77.715)
    found = models.find("torchvision:mvit_v2_s")
    assert (found.clip.frames, found.clip.stride, found.views.clips) == (16, 4, 5)


def test_a_probe_sees_what_is_pooled():
    linear, attentive = (
        models.build("torchvision:r3d_18", num_classes=5, probe=kind) for kind in ("linear", "attentive")
    )
    attentive.encoder.network.load_state_dict(linear.encoder.state_dict())
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.inference_mode():
        pooled, tokens = linear.eval().encoder(clip), attentive.eval().encoder(clip)
    assert tokens.shape == (1, 4 * 4 * 1, 512)
    torch.testing.assert_close(tokens.mean(1), pooled, rtol=1e-4, atol=1e-5)


def test_logits_are_those_of_torchvision(tmp_path):
    model = torchvision.models.get_model("r3d_18", num_classes=5).eval()
    torch.save(model.state_dict(), tmp_path / "r3d.pth")
    assert models.count_classes("torchvision:r3d_18", tmp_path / "r3d.pth") == 5
    ours = models.build("torchvision:r3d_18", num_classes=5, checkpoint=tmp_path / "r3d.pth").eval()
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.inference_mode():
        assert torch.equal(ours(clip), model(clip))


def test_a_clip_that_a_fixed_model_cannot_take_is_refused():
    clip = models.choose_clip("torchvision:mvit_v2_s", None, changes={"frames": 8})
    with pytest.raises(UserError, match="torchvision:mvit_v2_s cannot take 8 frames of 224x224 .its own: 16"):
        models.check_clip("torchvision:mvit_v2_s", clip)


def test_published_weights_keep_a_classifier_of_other_classes(monkeypatch):
    published = torchvision.models.get_model("r3d_18").state_dict()
    kind = type(torchvision.models.get_model_weights("r3d_18").DEFAULT)
    monkeypatch.setattr(kind, "get_state_dict", lambda self, **_: published)
    model = models.build("torchvision:r3d_18", num_classes=3, weights="DEFAULT")
    assert torch.equal(model.stem[0].weight, published["stem.0.weight"])
    with pytest.raises(UserError, match="unknown weights of torchvision:r3d_18 'V2'.*KINETICS400_V1"):
        models.build("torchvision:r3d_18", weights="V2")


def test_its_models_are_listed_by_their_addresses():
    assert models.library_names("torchvision") == [f"torchvision:{name}" for name in NAMES]


def test_an_unknown_name_has_near_ones():
    with pytest.raises(UserError, match="unknown video model of torchvision 'swin3d_x': did you mean 'swin3d_"):
        models.find("torchvision:swin3d_x")
