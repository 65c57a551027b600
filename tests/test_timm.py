"""An image model of timm over the frames of a clip."""

from __future__ import annotations

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError

try:
    import timm
except Exception as error:  # without torchvision, or one for another torch, it does not import
    pytest.skip(f"timm does not import here ({error}): pip install .[timm]", allow_module_level=True)

NAME = "timm:resnet10t"


def test_logits_are_the_mean_over_frames():
    model = models.build(NAME, num_classes=3).eval()
    clip = torch.randn(2, 3, 4, 64, 64)
    with torch.inference_mode():
        each = torch.stack([model.model(clip[:, :, t]) for t in range(4)])
        torch.testing.assert_close(model(clip), each.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(clip.flip(2)), model(clip), rtol=1e-4, atol=1e-5)


def test_an_exported_model_takes_any_number_of_clips():
    model = models.build(NAME, num_classes=3).eval()
    clips = torch.export.Dim("clips")
    made = torch.export.export(model, (torch.randn(2, 3, 4, 64, 64),), dynamic_shapes=({0: clips},)).module()
    clip = torch.randn(5, 3, 4, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(made(clip), model(clip), rtol=1e-4, atol=1e-5)


def test_a_probe_sees_all_frames_and_their_grid():
    image = models.build(NAME, num_classes=3, probe="linear").eval()
    tokens = models.build(NAME, num_classes=3, probe="attentive").eval()
    tokens.encoder.network.load_state_dict(image.encoder.state_dict())
    frames = torch.randn(2, 3, 4, 64, 64)
    with torch.inference_mode():
        pooled, found = image.encoder(frames), tokens.encoder(frames)
    assert (pooled.shape, found.shape) == ((2, 512), (2, 4 * 2 * 2, 512))
    torch.testing.assert_close(found.mean(1), pooled, rtol=1e-4, atol=1e-5)


def test_frames_are_prepared_as_timm_does():
    found, config = models.find(NAME), timm.get_pretrained_cfg("resnet10t")
    assert (found.clip.size, found.clip.sampling) == (config.input_size[-1], "segments")
    assert found.clip.mean == pytest.approx([255 * value for value in config.mean])
    assert found.head == ("model.fc.",)


def test_an_image_checkpoint_of_other_classes_starts_a_training(tmp_path):
    image = timm.create_model("resnet10t", num_classes=7)
    torch.save(image.state_dict(), tmp_path / "image.pth")
    model = models.build(NAME, num_classes=3, pretrained=tmp_path / "image.pth")
    torch.testing.assert_close(model.model.conv1[0].weight, image.conv1[0].weight)
    assert models.count_classes(NAME, tmp_path / "image.pth") == 7
    models.build(NAME, num_classes=7, checkpoint=tmp_path / "image.pth")


def test_a_transformer_is_built_for_the_clip():
    name = "timm:vit_tiny_patch16_224"
    clip = models.choose_clip(name, None, changes={"size": 64, "frames": 2})
    models.check_clip(name, clip)
    with torch.device("meta"):
        assert models.build(name, clip=clip).model.pos_embed.shape[1] == 17


def test_an_unknown_name_has_near_ones():
    with pytest.raises(UserError, match="unknown model of timm 'resnet5o': did you mean 'resnet50'"):
        models.find("timm:resnet5o")
