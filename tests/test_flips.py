"""A horizontal flip of training clips: the pixels, the labels that it exchanges, and those that it makes wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.pipelines import SamplerState, TrainTransform
from reelbench.pipelines import index as indexing
from reelbench.pipelines.index import Index
from reelbench.pipelines.source import ClipSampler
from reelbench.spec import Clip, Views

CLIP = Clip(frames=6, stride=3, size=48, short_side=56)


def batches(index: Index, **options) -> list[pipelines.Batch]:
    with pipelines.open(index, **{"clip": CLIP, "batch": 2, **options}) as stream:
        return list(stream.epoch())


@pytest.mark.slow  # several streams, each with its decoders
def test_a_flip_mirrors_and_changes_nothing_else(vp9: Index):
    (plain,) = batches(vp9, batch=5, transform=TrainTransform(flip=0.0))
    (flipped,) = batches(vp9, batch=5, transform=TrainTransform(flip=1.0))
    assert torch.equal(plain.clip.flip(-1), flipped.clip)
    clip_sampler = ClipSampler(clip=CLIP, transform=TrainTransform(flip=0.25))
    flips = [clip_sampler.sample(30, (64, 64), 0, row).flip for row in range(2000)]
    assert 0.21 < np.mean(flips) < 0.29


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_flip_exchanges_the_labels_that_it_exchanges(vp9: Index, multi_label: bool):
    """Classes 0 and 1 are each other's mirror images, class 2 is its own."""
    videos = [
        dataclasses.replace(v, label=((0, 2) if v.label else (0,)) if multi_label else v.label) for v in vp9.videos()
    ]
    index = indexing.from_videos(videos, vp9.classes, vp9.root, multi_label=multi_label)
    index = dataclasses.replace(index, mirror=((0, 1),))
    transform = TrainTransform(flip=0.5)
    with pipelines.open(index, clip=CLIP, batch=5, transform=transform, sampler=SamplerState(seed=1)) as stream:
        (batch,) = stream.epoch()
    clip_sampler = ClipSampler(clip=CLIP, transform=transform, seed=1)
    flips = [bool(clip_sampler.sample(v.frames, (v.width, v.height), 0, row).flip) for row, v in enumerate(videos)]
    assert any(flips)
    assert not all(flips)
    for row, label in zip(batch.video.tolist(), batch.label, strict=True):
        own = {0: 1, 1: 0, 2: 2} if flips[row] else {0: 0, 1: 1, 2: 2}
        if multi_label:
            named = videos[row].label
            assert label.tolist() == [float(k in {own[n] for n in named}) for k in range(3)]
        else:
            assert int(label) == own[videos[row].label]


@pytest.mark.slow  # streams with workers
def test_a_recipe_says_which_labels_a_flip_exchanges_and_which_it_spares(vp9: Index):
    """Rows 0 and 3 have label 0, rows 1 and 4 label 1, row 2 label 2."""
    (plain,) = batches(vp9, batch=5, transform=TrainTransform())
    transform = TrainTransform(flip=1.0, flip_swaps=((0, 2),), flip_keeps=(1,))
    (batch,) = batches(vp9, batch=5, transform=transform)
    for row, label, clip, still in zip(batch.video.tolist(), batch.label, batch.clip, plain.clip, strict=True):
        assert int(label) == {0: 2, 1: 1, 2: 0}[row % 3]
        assert torch.equal(clip, still if row % 3 == 1 else still.flip(-1))
    with pytest.raises(UserError, match="label 7 is none of the index.s 3 classes"):
        pipelines.open(vp9, clip=CLIP, batch=1, transform=TrainTransform(flip_keeps=(7,)))


@pytest.mark.slow  # streams with workers
def test_nothing_is_flipped_where_a_flip_makes_labels_wrong(vp9: Index):
    still = dataclasses.replace(vp9, mirror=None)
    (flipped,) = batches(still, batch=5, transform=TrainTransform(flip=1.0))
    (plain,) = batches(vp9, batch=5, transform=TrainTransform(flip=0.0))
    assert torch.equal(flipped.clip, plain.clip)


@pytest.mark.slow  # streams with workers
def test_the_label_of_a_test_video_is_its_own_in_every_view(vp9: Index):
    videos = [dataclasses.replace(video, label=(0, 2)) for video in vp9.videos()]
    index = indexing.from_videos(videos, vp9.classes, vp9.root, multi_label=True)
    (batch,) = batches(index, batch=5, views=Views(clips=2, crops=3))
    assert batch.label.tolist() == [[1.0, 0.0, 1.0]] * 30
