"""Frame and box arithmetic, index for index and box for box against MMAction2's transforms (golden/protocol.json)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reelbench.pipelines import clips, reference

GOLDEN = json.loads((Path(__file__).parent / "golden" / "protocol.json").read_text())
CROPS = {"CenterCrop": clips.center_crop, "ThreeCrop": clips.three_crop, "TenCrop": clips.ten_crop}


def test_sample_frames_in_test_mode():
    for row in GOLDEN["sample_frames"]:
        length, stride, total = row["clip_len"], row["frame_interval"], row["total_frames"]
        starts = clips.even_starts(total, length, stride, row["num_clips"], twice=row["twice_sample"])
        frames = clips.frames_at(starts, length, stride, total, row["out_of_bound_opt"])
        assert frames.ravel().tolist() == row["frame_inds"], row


def test_segments_are_sample_frames_of_length_one():
    rows = [r for r in GOLDEN["sample_frames"] if r["clip_len"] == 1 and r["out_of_bound_opt"] == "loop"]
    assert rows
    for row in rows:
        frames = clips.segments_even(row["total_frames"], row["num_clips"], 2 if row["twice_sample"] else 1)
        assert frames.ravel().tolist() == row["frame_inds"], row


def test_dense_sample_frames():
    for row in GOLDEN["dense_sample_frames"]:
        frames = clips.dense_sample(
            row["total_frames"], row["num_clips"], row["num_sample_positions"], row["sample_range"]
        )
        assert frames.ravel().tolist() == row["frame_inds"], row


def test_middle_starts_are_those_of_mmaction_0():
    """int(i * avg + avg / 2) with avg = (N - 64 + 1) / 4, and all 0 where the video is shorter than the span."""
    for total in (1, 30, 63, 64, 65, 100, 250, 300):
        average = (total - 64 + 1) / 4
        expected = [int(i * average + average / 2) if total >= 64 else 0 for i in range(4)]
        assert clips.middle_starts(total, 64, 4).tolist() == expected
    assert clips.middle_starts(300, 64, 1).tolist() == [118]


def test_a_window_includes_both_its_ends():
    assert clips.window(300, 8, 32).tolist() == [np.linspace(21, 276, 8).astype(int).tolist()]
    assert clips.window(20, 8, 32).tolist() == [np.linspace(0, 19, 8).astype(int).tolist()]
    assert clips.window(300, 8, 32, clips=3)[:, 0].tolist() == [0, 21, 43]
    starts = {int(clips.window(60, 4, 10, draw=np.random.default_rng(seed).integers)[0, 0]) for seed in range(200)}
    assert starts == set(range(60 - 40))


def test_uniform_sample():
    for row in GOLDEN["uniform_sample"]:
        frames = clips.uniform_even(row["total_frames"], row["clip_len"], row["num_clips"])
        assert frames.ravel().tolist() == row["frame_inds"], row


@pytest.mark.parametrize("row", GOLDEN["training"], ids=lambda r: f"{r['transform']}-{r['total_frames']}")
def test_training_draws_what_the_official_code_draws(row: dict):
    draw, total = np.random.RandomState(row["numpy_global_seed"]).randint, row["total_frames"]
    if match := re.fullmatch(r"SampleFrames\((\d+),(\d+),(\d+)\)", row["transform"]):
        length, stride, count = map(int, match.groups())
        frames = clips.frames_at(clips.random_starts(total, length * stride, count, draw), length, stride, total)
    elif row["transform"] == "UniformSample(8)":
        frames = clips.uniform_random(total, 8, draw)
    else:
        frames = clips.dense_sample(total, 8, draw=draw)
    assert frames.ravel().tolist() == row["frame_inds"]


@pytest.mark.parametrize("row", GOLDEN["crops"], ids=lambda r: f"{r['transform']}-{r['size_wh']}-{r['crop_size']}")
def test_crops(row: dict):
    boxes = CROPS[row["transform"]](*row["size_wh"], row["crop_size"])
    if row["transform"] == "TenCrop":
        boxes = [box for box in boxes for _ in ("plain", "flipped")]
    assert [list(box) for box in boxes] == row["boxes"]


def test_rescale():
    for row in GOLDEN["resize"]:
        assert list(clips.rescale(*row["in_wh"], row["short_side"])) == row["out_wh"], row


@pytest.mark.parametrize("row", GOLDEN["multi_scale"], ids=lambda r: str(r["size_wh"]))
def test_multi_scale_crop_has_the_official_sizes_and_places(row: dict):
    width, height = row["size_wh"]
    assert sorted(clips.multi_scale_sizes(width, height, 224)) == sorted(map(tuple, row["candidate_wh"]))
    choices = [iter((size, place)) for size in range(10) for place in range(13)]
    boxes = {clips.multi_scale_crop(width, height, 224, lambda _, c=c: next(c)) for c in choices}
    assert boxes == set(map(tuple, row["boxes"]))


def test_one_resampling_is_a_resize_followed_by_a_crop():
    """The reference meets OpenCV's resize (which has fixed-point weights: one grey level), whole and in parts."""
    row = GOLDEN["resize_pixels"]
    image = np.random.RandomState(7).randint(0, 256, (1, 12, 16, 3)).astype(np.uint8)
    official = np.array(row["out"], dtype=int)
    for x, y in ((0, 0), (2, 0), (1, 0)):
        box = np.array(clips.in_source((x, y, x + 7, y + 7), (9, 7), (16, 12)))
        crop = reference.resample(image, box, 7)[0]
        assert np.abs(crop - official[y : y + 7, x : x + 7]).max() < 1


@settings(deadline=None, max_examples=200)
@given(
    total=st.integers(1, 400),
    length=st.integers(1, 32),
    stride=st.integers(1, 8),
    count=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_frames_exist(total: int, length: int, stride: int, count: int, seed: int):
    draw = np.random.default_rng(seed).integers
    for frames, rows in (
        (clips.frames_at(clips.random_starts(total, length * stride, count, draw), length, stride, total), count),
        (clips.frames_at(clips.even_starts(total, length, stride, count), length, stride, total, "repeat_last"), count),
        (clips.segments_even(total, length, count), count),
        (clips.uniform_even(total, length, count), count),
        (clips.uniform_random(total, length, draw), 1),
        (clips.dense_sample(total, length, count), count),
        (clips.frames_at(clips.middle_starts(total, length * stride, count), length, stride, total), count),
        (clips.window(total, length, stride, count), count),
        (clips.window(total, length, stride, draw=draw), 1),
    ):
        assert frames.shape == (rows, length)
        assert frames.dtype == np.int32
        assert frames.min() >= 0
        assert frames.max() < total


@settings(deadline=None, max_examples=200)
@given(width=st.integers(32, 500), height=st.integers(32, 500), seed=st.integers(0, 99))
def test_boxes_lie_inside_the_picture(width: int, height: int, seed: int):
    rng, size = np.random.default_rng(seed), 32
    boxes = [
        clips.random_resized_crop(width, height, rng),
        clips.random_crop(width, height, size, rng.integers),
        *clips.center_crop(width, height, size),
        *clips.three_crop(width, height, size),
        *clips.ten_crop(width, height, size),
    ]
    if min(width, height) >= 64:
        boxes.append(clips.multi_scale_crop(width, height, size, rng.integers))
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height


def test_random_resized_crop_follows_its_area_and_shape():
    rng = np.random.default_rng(0)
    boxes = np.array([clips.random_resized_crop(340, 256, rng, (0.2, 0.5)) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, shape = width * height / (340 * 256), width / height
    assert 0.195 < area.min() < 0.21
    assert 0.49 < area.max() < 0.505
    assert abs(area.mean() - 0.35) < 0.01
    assert shape.min() > 0.74
    assert shape.max() < 1.35
    assert abs(np.log(shape).mean()) < 0.02
