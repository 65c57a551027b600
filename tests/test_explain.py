"""What a model looked at: the official Grad-CAM's numbers, every family's maps, pictures that open again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness.explain import Method, cells, explain, pictures
from reelbench.harness.explain.maps import attention, grad_cam
from reelbench.models.maskfeat import hog_targets
from reelbench.pipelines.index import Index
from reelbench.tests import golden_models as goldens
from safetensors.torch import save_file

MICROS = sorted(name for name in models.names() if name.endswith("/micro"))


def micro(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    clip = models.find(name).clip
    return models.build(name, num_classes=8).eval(), torch.randn(1, 3, clip.frames, clip.size, clip.size)


@pytest.mark.slow  # clips through a model of full size
def test_grad_cam_is_the_official_one():
    golden = goldens.read("dualformer_t_gradcam.json")
    source = goldens.read(golden["derived_from"])
    model, clip = models.build("dualformer/t", checkpoint=goldens.filled(source)).eval(), goldens.clip(source)
    for label, expected in ((None, golden["map_predicted"]), (5, golden["map_label5"])):
        found, top = grad_cam(model, clip, label=label)
        assert top == (label or golden["preds"]["argmax"])
        assert list(found.shape) == expected["shape"]
        assert found.mean().item() == pytest.approx(expected["mean"], rel=1e-4)
        samples = found[0, 16, ::32, ::32].flatten()
        np.testing.assert_allclose(samples, expected["samples_t16"], atol=1e-4)
        if label is None:
            _blends_as_the_official_one(clip, found, golden)


def _blends_as_the_official_one(clip: torch.Tensor, found: torch.Tensor, golden: dict) -> None:
    shape = models.find("dualformer/t").clip
    mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (shape.mean, shape.std))
    frames = ((clip[0] * std + mean) / 255).permute(1, 2, 3, 0).numpy()
    blended = pictures.blend(frames, found[0].numpy(), golden["alpha"])
    np.testing.assert_allclose(blended.flatten()[:8], golden["blended"]["head"], atol=2e-3)
    assert blended.mean() == pytest.approx(golden["blended"]["mean"], rel=1e-4)


@pytest.mark.parametrize("name", MICROS)
def test_every_family_has_a_layer_that_feels_the_class(name):
    model, clip = micro(name)
    maps = [grad_cam(model, clip, label=label)[0] for label in (1, 2)]
    assert all(m.shape == (1, *clip.shape[2:]) for m in maps)
    assert all(m.min() >= 0 and m.max() <= 1 for m in maps)
    assert any(m.std() > 0 for m in maps)
    assert not torch.equal(*maps)
    assert all(p.grad is None for p in model.parameters())


def test_another_layer_is_found_by_its_path_or_told():
    model, clip = micro("video_swin/micro")
    layer = "backbone.layers.0.blocks.-1"
    assert not torch.equal(grad_cam(model, clip, layer=layer)[0], grad_cam(model, clip)[0])
    with pytest.raises(UserError, match="there is no 'stages', here are backbone, cls_head"):
        grad_cam(model, clip, layer="stages.1")
    with pytest.raises(UserError, match="there is no '-x', here are backbone, cls_head"):
        grad_cam(model, clip, layer="-x")


def test_attention_is_where_the_tokens_say():
    """The divided TimeSformer's own map, mean over heads, is the last layer's."""
    model, clip = micro("timesformer/micro")
    with torch.inference_mode():
        own = model.attention_map(clip).mean(1)[:, 0, 1:]  # T P
    side = round(own.shape[1] ** 0.5)
    expected = torch.nn.functional.interpolate(
        own.view(1, 1, -1, side, side), size=clip.shape[2:], mode="trilinear", align_corners=False
    )[0, 0]
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    torch.testing.assert_close(attention(model, clip)["last layer"][0], expected, atol=1e-4, rtol=1e-4)


def test_a_stroke_lies_along_the_edge():
    ramp = torch.arange(32.0).expand(1, 3, 32, 32) * 8  # brighter to the right: edges stand upright
    picture = pictures.draw_hog(cells(hog_targets(ramp, 16)).numpy())[0, 8:16, 8:16, 0]
    assert picture[:, 3:5].sum() > 3 * picture[3:5].sum() / 2


def test_cells_lie_where_the_pixels_were():
    frames = torch.rand(2, 3, 32, 32) * 255
    fine, coarse = hog_targets(frames, 8), hog_targets(frames, 16)
    torch.testing.assert_close(cells(coarse), fine)


def test_maskfeat_shows_what_it_was_given_and_what_it_says(tiny_synthetic, tmp_path: Path):
    video = next(iter(Index.load(tiny_synthetic["test"]).videos())).path
    save_file(models.build("mvit/micro").state_dict(), str(tmp_path / "w.safetensors"))
    found = explain(
        "mvit/micro", video, tmp_path / "x.png", checkpoint=tmp_path / "w.safetensors", method=Method(name="hog")
    )
    assert list(found.panels) == ["given", "predicted", "there is", "frame"]
    shape = models.find("mvit/micro").clip
    assert {panel.shape for panel in found.panels.values()} == {(shape.frames, shape.size, shape.size, 3)}
    given, _, _, frame = found.panels.values()
    assert 0 < (given != frame).any(-1).mean() < 0.6


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".png"])
def test_pictures_open_again(suffix: str, tmp_path: Path):
    frames = np.random.default_rng(0).random((6, 40, 40, 3), dtype=np.float32)
    to = tmp_path / f"out{suffix}"
    pictures.write({"frame": frames, "its negative": 1 - frames}, to, fps=5)
    if suffix == ".png":
        assert Image.open(to).size == (6 * 160, 2 * 180)
    elif suffix == ".gif":
        with Image.open(to) as opened:
            assert (opened.n_frames, opened.size) == (6, (320, 180))  # type: ignore[attr-defined]
    else:
        with av.open(str(to)) as file:
            decoded = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert [frame.shape for frame in decoded] == [(180, 320, 3)] * 6


def test_long_titles_are_wrapped_and_many_panels_stand_in_a_block(tmp_path: Path):
    frames = np.zeros((2, 160, 160, 3), dtype=np.float32)
    long = "Pretending to put something behind something"
    pictures.write({"frame": frames, long: frames}, tmp_path / "long.gif", fps=5)
    pictures.write({f"head {n}": frames for n in range(13)}, tmp_path / "many.gif", fps=5)
    assert Image.open(tmp_path / "long.gif").size == (2 * 160, 160 + 3 * 20)
    assert Image.open(tmp_path / "many.gif").size == (6 * 160, 3 * 180)
    heading = np.asarray(Image.open(tmp_path / "long.gif").convert("L"))[:60]
    right = heading[:, 160:].reshape(3, 20, 160)
    assert (right.min((1, 2)) < 100).all()  # ink in every line,
    assert right[:, :, -2:].min() > 200  # and none cut off


def test_colors_are_named_as_far_as_there_is_room(tmp_path: Path):
    labels = np.array([[[5, 5], [5, 7]]])
    painted, colors = pictures.class_colors(labels)
    assert list(colors) == [5, 7]
    np.testing.assert_allclose(painted[0, 1, 1], colors[7])
    panel = pictures.spread(painted, (1, 160, 160, 3))
    legend = {"left": colors[5], "x" * 60: colors[7]}
    pictures.write({"tokens": panel}, tmp_path / "x.png", fps=5, legend=legend)
    line = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))[-20:] / 255
    assert (abs(line - colors[5]) < 0.01).all(-1).sum() == 12 * 16
    assert not (abs(line - colors[7]) < 0.01).all(-1).any()


def test_the_clip_is_the_one_that_was_trained_on(tiny_synthetic, tmp_path: Path):
    video = next(iter(Index.load(tiny_synthetic["test"]).videos())).path
    save_file(models.build("tsm/micro").state_dict(), str(tmp_path / "best.safetensors"))
    clip = dataclasses.asdict(dataclasses.replace(models.find("tsm/micro").clip, size=48, short_side=48))
    (tmp_path / "clip.json").write_text(json.dumps(clip))
    found = explain("tsm/micro", video, tmp_path / "x.png", checkpoint=tmp_path / "best.safetensors")
    assert found.panels["frame"].shape[1:] == (48, 48, 3)


@pytest.mark.slow  # loads and explains
def test_a_video_is_explained_on_the_command_line(tiny_synthetic, tmp_path: Path, reelbench):
    video = next(iter(Index.load(tiny_synthetic["test"]).videos())).path
    model, _ = micro("dualformer/micro")
    save_file(model.state_dict(), str(tmp_path / "w.safetensors"))

    def command(*arguments: object) -> tuple[int, str]:
        code, out, err = reelbench("explain", *arguments)
        return code, out + err

    given = ["dualformer/micro", video, "--checkpoint", tmp_path / "w.safetensors"]
    for method, height in (("gradcam", 2 * 180), ("tokens", 2 * 180 + 20)):  # a line for the colors of classes
        code, said = command(*given, "--method", method, "--to", tmp_path / f"{method}.png")
        assert code == 0, said
        assert "class " in said
        assert Image.open(tmp_path / f"{method}.png").size == (8 * 160, height)
    for wrong, text in (
        (["--method", "gradcm"], "did you mean 'gradcam'"),
        (["--to", "x.webm"], ".gif, .mp4, .png"),
        (["--heads"], "--heads belongs to --method attention, here it is gradcam"),
        (["--method", "tokens", "--label", "1"], "--label belongs to --method gradcam"),
        (["--to", video / "x.png"], "cannot be written"),
        (["--method", "hog"], "was not pre-trained by MaskFeat"),
    ):
        code, said = command(*given, *wrong)
        assert code == 2, said
        assert text in said
    with pytest.raises(UserError, match=r"no video .*none.mp4"):
        explain("dualformer/micro", tmp_path / "none.mp4", tmp_path / "x.gif", checkpoint=tmp_path / "w.safetensors")
