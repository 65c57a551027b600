"""The stream against a slow plain reference: frames, pixels, order, sharding, resuming, views, and mistakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.pipelines import SamplerState, TrainTransform, reference, software
from reelbench.pipelines import index as indexing
from reelbench.pipelines.index import Index
from reelbench.pipelines.source import BatchSampler, ClipSampler
from reelbench.spec import Clip, Views

CODECS = ("vp9", "vp8", "mjpeg", "h264", "hevc", "mpeg4", "av1")
ON_CPU = ("vp9", "vp8")
CLIP = Clip(frames=6, stride=3, size=48, short_side=56)
PLAIN = Clip(frames=6, stride=3, size=64, short_side=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def batches(index: Index, **options) -> list[pipelines.Batch]:
    with pipelines.open(index, **{"clip": CLIP, "batch": 2, **options}) as stream:
        return list(stream.epoch())


def grey(clip: torch.Tensor, of: Clip = CLIP) -> torch.Tensor:
    """Normalised clips back on the 0..255 scale."""
    shape = (3, 1, 1, 1)
    return clip * torch.tensor(of.std).view(shape) + torch.tensor(of.mean).view(shape)


def expected(index: Index, clip_sampler: ClipSampler, row: int, epoch: int = 0) -> torch.Tensor:
    video = index[row]
    frames = reference.decode(video.path, video.stream, video.rotation, video.flipped)[
        video.offset : video.offset + video.frames
    ]
    return torch.from_numpy(reference.views(frames, clip_sampler, epoch, row))


def check(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Every pixel is the reference's value, rounded to a whole grey level (positions are float32 there)."""
    assert (grey(found) - grey(wanted)).abs().max() < 0.51


# --- Frames and pixels


@pytest.mark.slow  # decodes every codec in full
@pytest.mark.parametrize(
    "codec",
    [pytest.param(c, marks=pytest.mark.exhaustive) if c in ("hevc", "mpeg4", "mjpeg") else c for c in CODECS],
)
def test_frames_and_pixels_are_those_of_a_full_decode(index_of: Callable[..., Index], codec: str):
    """Where nothing is resampled, clips equal the frames of a full decode bit for bit, short videos looped."""
    index = index_of(codec, ((64, 64),) * 5)
    for transform in (None, TrainTransform(crop="center")):
        with pipelines.open(index, clip=PLAIN, batch=2, transform=transform) as stream:
            assert stream.decoder == ("dali" if codec in ON_CPU else "software")
            found = list(stream.epoch())
        clip_sampler = ClipSampler(clip=PLAIN, transform=transform)
        rows = [int(row) for batch in found for row in batch.video]
        clips = torch.cat([batch.clip for batch in found])
        assert len(rows) == (4 if transform else 5)
        for row, clip in zip(rows, clips, strict=True):
            assert torch.equal(clip, expected(index, clip_sampler, row)[0])


@pytest.mark.parametrize("codec", [c for c in CODECS if c in ON_CPU])
def test_both_decoders_give_the_same_clips(index_of: Callable[..., Index], codec: str):
    ours = batches(index_of(codec), decoder="software", transform=TrainTransform(flip=0.5))
    dalis = batches(index_of(codec), decoder="dali", transform=TrainTransform(flip=0.5))
    for one, other in zip(ours, dalis, strict=True):
        assert torch.equal(one.video, other.video)
        difference = (grey(one.clip) - grey(other.clip)).abs()
        # The software decoder hands over a part of the picture: positions there round a little differently.
        assert difference.max() < 1.01
        assert (difference > 0.5).float().mean() < 1e-3


@pytest.mark.parametrize("codec", CODECS)
def test_software_finds_any_frames(index_of: Callable[..., Index], codec: str):
    """Sparse, dense, late and lone frames, seeking as it likes: the frames that a full decode numbers so."""
    rng, index = np.random.default_rng(0), index_of(codec)
    for row in range(len(index)):
        some_frames(index[row], rng)


def some_frames(video: indexing.Video, rng: np.random.Generator, region: bool = True) -> None:
    """Check a few choices of frames, in a region that leaves the picture's edges out where there is room."""
    everything, content = reference.decode(video.path, video.stream), np.fromfile(video.path, np.uint8)
    assert len(everything) == len(video.pts)
    x0, y0, x1, y1 = box = (10, 8, video.width - 8, video.height - 10) if region else (0, 0, video.width, video.height)
    for count in (1, 2, 3, 8, len(everything)):
        wanted = np.unique(rng.integers(0, len(everything), count))
        found = software.decode(content, video.stream, wanted, video.pts, video.key_frames, box)
        inner = slice(4, -4) if region else slice(None)
        assert np.array_equal(found[:, inner, inner], everything[wanted, y0:y1, x0:x1][:, inner, inner])


@pytest.mark.parametrize(
    "name",
    [
        "av1_video.mkv",
        "h264_10bits.mp4",
        "h265_10bits.mp4",
        "h264_32_frames.mp4",
        "kinetics_arm_wrestling.mp4",
        "mpeg4_320x240.avi",
        "nasa_13013.mp4",
    ],
)
def test_software_finds_any_frames_of_real_clips(real_clips: Path, name: str):
    some_frames(indexing.scan(real_clips / name), np.random.default_rng(0))


def test_a_span_of_a_file(vp9: Index):
    """A list may trim its files: frame i of the video is then frame offset + i of the file."""
    video = dataclasses.replace(vp9[4], offset=11, frames=9)
    index = indexing.from_videos([video], vp9.classes, vp9.root)
    for decoder in ("dali", "software"):
        (batch,) = batches(index, batch=1, decoder=decoder)
        check(batch.clip, expected(index, ClipSampler(clip=CLIP, views=Views()), 0))


# --- Clips and views


@pytest.mark.slow  # a dozen streams, each with its decoders
@pytest.mark.parametrize("crop", ["random_resized", "multi_scale", "random", "center"])
@pytest.mark.parametrize("sampling", ["dense", "segments", "uniform"])
def test_training_clips_match_the_reference(vp9: Index, sampling: str, crop: str):
    clip = dataclasses.replace(CLIP, sampling=sampling)
    transform = TrainTransform(crop=crop, crop_area=(0.2, 1.0), flip=0.5)  # type: ignore[arg-type]
    with pipelines.open(vp9, clip=clip, batch=4, transform=transform, sampler=SamplerState(seed=3)) as stream:
        (batch,) = stream.epoch()
    clip_sampler = ClipSampler(clip=clip, transform=transform, seed=3)
    assert batch.clip.shape == (4, 3, 6, 48, 48)
    assert batch.clip.dtype == torch.float32
    assert batch.view.tolist() == [0] * 4
    for found, row, label in zip(batch.clip, batch.video, batch.label, strict=True):
        check(found, expected(vp9, clip_sampler, int(row))[0])
        assert label == row % 3


@pytest.mark.parametrize(
    ("sampling", "views"),
    [
        ("dense", Views(clips=4, crops=3)),
        ("segments", Views(clips=2, crops=10)),
        ("uniform", Views(clips=3, crops=1)),
        ("dense", Views(clips=1, crops=3, size=32, short_side=32)),
        ("dense_middle", Views(clips=4, crops=3)),
        ("dense_64", Views(clips=3, crops=1)),
        ("window", Views(clips=2, crops=1)),
    ],
)
def test_test_views_match_the_reference(vp9: Index, sampling: str, views: Views):
    clip = dataclasses.replace(CLIP, sampling=sampling)
    found = batches(vp9, clip=clip, batch=3, views=views)
    clip_sampler = ClipSampler(clip=clip, views=views)
    videos = torch.cat([batch.video for batch in found])
    assert videos.tolist() == np.arange(5).repeat(views.count).tolist()
    assert torch.cat([batch.view for batch in found]).tolist() == list(range(views.count)) * 5
    clips = torch.cat([batch.clip for batch in found])
    assert clips.shape == (5 * views.count, 3, 6, clip_sampler.size, clip_sampler.size)
    check(clips, torch.cat([expected(vp9, clip_sampler, row) for row in range(5)]))


def test_a_short_video_is_looped_or_its_last_frame_repeated(vp9: Index):
    """The first video has three frames; a clip of six with stride 2 needs eleven."""
    for rule, expected in (("loop", [0, 2, 1, 0, 2, 1]), ("repeat_last", [0, 2, 2, 2, 2, 2])):
        clip = dataclasses.replace(CLIP, out_of_bound=rule, stride=2)
        cut = ClipSampler(clip=clip, views=Views()).sample(3, (64, 64), 0, 0)
        assert cut.frames[cut.positions[0]].tolist() == expected


# --- Order


def test_every_row_once_whatever_the_ranks():
    for total, batch, world in ((10, 3, 1), (10, 3, 4), (7, 2, 3), (2, 4, 3), (24, 4, 2)):
        for training in (False, True):
            orders = [
                BatchSampler(total=total, batch=batch, training=training, rank=rank, world=world)
                for rank in range(world)
            ]
            rows = [row for o in orders for number in range(o.batches) for row in o.rows(0, number).tolist()]
            assert len(set(rows)) == len(rows)
            assert len(rows) == (total // (batch * world) * batch * world if training else total)


def test_ranks_share_the_global_batches_of_one():
    one = BatchSampler(total=50, batch=8, training=True, seed=5)
    two = [BatchSampler(total=50, batch=4, training=True, seed=5, rank=rank, world=2) for rank in (0, 1)]
    for epoch in (0, 1):
        for number in range(one.batches):
            halves = [order.rows(epoch, number) for order in two]
            assert np.array_equal(np.concatenate(halves), one.rows(epoch, number))


@pytest.mark.slow  # several streams, each with its decoders
def test_clips_depend_on_seed_epoch_and_row_alone(vp9: Index):
    transform = TrainTransform(flip=0.5)
    (whole,) = batches(vp9, batch=4, transform=transform, sampler=SamplerState(seed=7))
    ranks = [SamplerState(seed=7, rank=rank, world=2) for rank in (0, 1)]
    halves = [batches(vp9, batch=2, transform=transform, sampler=sampler, workers=1)[0] for sampler in ranks]
    assert torch.equal(torch.cat([half.clip for half in halves]), whole.clip)
    assert torch.equal(torch.cat([half.label for half in halves]), whole.label)
    (other,) = batches(vp9, batch=4, transform=transform, sampler=SamplerState(seed=8))
    assert not torch.equal(other.clip, whole.clip)


def test_epochs_differ_and_a_resume_sees_the_same(vp9: Index):
    options = {"clip": CLIP, "batch": 2, "transform": TrainTransform(flip=0.5)}
    with pipelines.open(vp9, **options) as stream:
        epochs = [list(stream.epoch()) for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [2, 2, 2]
    orders = [torch.cat([batch.video for batch in epoch]).tolist() for epoch in epochs]
    assert orders[0] != orders[1]
    with pipelines.open(vp9, sampler=SamplerState(epoch=1, batch=1), **options) as stream:
        resumed = [list(stream.epoch()), list(stream.epoch())]
    assert [len(epoch) for epoch in resumed] == [1, 2]
    for found, wanted in zip(sum(resumed, []), epochs[1][1:] + epochs[2], strict=True):
        assert torch.equal(found.clip, wanted.clip)
        assert torch.equal(found.video, wanted.video)


@pytest.mark.slow  # several streams, each with its decoders
@pytest.mark.parametrize("transform", [TrainTransform(), None], ids=["training", "testing"])
def test_an_epoch_left_early_does_not_disturb_the_next(vp9: Index, transform: TrainTransform | None):
    options = {"clip": CLIP, "batch": 1, "transform": transform}
    with pipelines.open(vp9, **options) as stream:
        epochs = [list(stream.epoch()) for _ in range(2)]
    with pipelines.open(vp9, **options) as stream:
        first = stream.epoch()
        assert torch.equal(next(first).clip, epochs[0][0].clip)
        second = list(stream.epoch())
        assert list(first) == []
    assert [int(b.video) for b in second] == [int(b.video) for b in epochs[1]]
    assert all(torch.equal(a.clip, b.clip) for a, b in zip(second, epochs[1], strict=True))


def test_batches_outlive_the_stream(vp9: Index):
    """Clips are handed over without a copy, so later batches must not be written over earlier ones."""
    with pipelines.open(vp9, clip=CLIP, batch=1) as stream:
        kept = [(batch.clip, batch.clip.clone()) for batch in stream.epoch()]
        list(stream.epoch())
    assert all(torch.equal(held, copy) for held, copy in kept)


def test_a_rank_without_videos_has_no_batches(vp9: Index):
    assert batches(vp9, batch=2, sampler=SamplerState(rank=6, world=8)) == []


# --- Choices and mistakes


def test_the_decoder_follows_the_codecs(index_of: Callable[..., Index], vp9: Index):
    def chosen(index: Index) -> str:
        return pipelines.open(index, clip=CLIP, batch=1).decoder

    assert [chosen(index_of(codec)) for codec in ("vp9", "h264")] == ["dali", "software"]
    mostly = indexing.from_videos([vp9[0], vp9[1], index_of("h264")[0]], vp9.classes, Path("/"))
    rarely = indexing.from_videos([vp9[0], *index_of("h264").videos()], vp9.classes, Path("/"))
    assert [chosen(mostly), chosen(rarely)] == ["dali", "software"]
    with pytest.raises(UserError, match="DALI on this cpu decodes none of the files \\(h264\\)"):
        pipelines.open(index_of("h264"), clip=CLIP, batch=1, decoder="dali")


def test_an_odd_file_among_others_is_decoded_in_software(index_of: Callable[..., Index], vp9: Index):
    """VP9, H.264, VP9 that hides a packet, turned VP9: one batch, each as the reference shows it."""
    turned = dataclasses.replace(vp9[2], rotation=90)
    videos = [vp9[0], index_of("h264")[4], dataclasses.replace(vp9[3], hidden=1), turned, vp9[4]]
    index = indexing.from_videos(videos, vp9.classes, Path("/"))
    with pipelines.open(index, clip=CLIP, batch=5, views=Views(clips=2), decoder="dali") as stream:
        (batch,) = stream.epoch()
        assert stream.decoder == "dali"
    clip_sampler = ClipSampler(clip=CLIP, views=Views(clips=2))
    assert batch.video.tolist() == np.arange(5).repeat(2).tolist()
    check(batch.clip, torch.cat([expected(index, clip_sampler, row) for row in range(5)]))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"decoder": "dalli"}, "did you mean 'dali'"),
        ({"device": "gpu"}, "unknown device"),
        ({"batch": 0}, "batch=0"),
        ({"batch": 9, "transform": TrainTransform()}, "5 videos, fewer than one global batch"),
        ({"sampler": SamplerState(batch=3), "transform": TrainTransform()}, "an epoch has 2 batches"),
        ({"transform": TrainTransform(short_sides=(16, 64))}, "short_sides"),
        ({"views": Views(size=64)}, "below size=64"),
    ],
)
def test_a_mistake_ends_in_one_line(vp9: Index, options: dict, named: str):
    with pytest.raises(UserError, match=named) as caught:
        pipelines.open(vp9, **{"clip": CLIP, "batch": 2, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (TrainTransform, {"crop": "centre"}, "did you mean 'center'"),
        (TrainTransform, {"crop_area": (0.5, 0.1)}, "crop_area"),
        (TrainTransform, {"flip": 2.0}, "flip=2.0"),
        (SamplerState, {"rank": 2, "world": 2}, "rank=2"),
    ],
)
def test_what_a_stream_is_opened_with_checks_itself(kind: type, options: dict, named: str):
    with pytest.raises(UserError, match=named) as caught:
        kind(**options)
    assert "\n" not in str(caught.value)
