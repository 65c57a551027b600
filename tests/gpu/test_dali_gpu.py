"""The same graph on a GPU: NVDEC finds the same frames, and clips stay close to the CPU's.

NVDEC converts YUV to RGB by its own rounding, so pixels are compared loosely and frames strictly: each decoded frame
must be nearer to the right frame of a full decode than to any other.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from reelbench import pipelines
from reelbench.harness.decoders import chart
from reelbench.pipelines import augment, reference
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import encode
from reelbench.pipelines.index import Index
from reelbench.pipelines.source import ClipSampler, EncodedSource
from reelbench.pipelines.stream import Stream
from reelbench.spec import Clip, Views

pytestmark = pytest.mark.gpu

CLIP = Clip(frames=8, stride=3, size=160, short_side=160, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
SUFFIX = {"h264": "mp4", "hevc": "mp4", "vp9": "webm", "vp8": "webm"}


def made(root: Path, codec: str, count: int = 6) -> Index:
    """Videos of blocks that change in every frame; key frames are 8 apart.

    192 x 160 pixels: NVDEC takes HEVC from 144 x 144 on.
    """
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (20 + 3 * number, 10, 12, 3), dtype=np.uint8)
        encode(
            root / f"{number}.{SUFFIX[codec]}",
            coarse.repeat(16, axis=1).repeat(16, axis=2),
            codec=codec,
            fps=25,
            gop=8,
        )
    entries = [(f"{number}.{SUFFIX[codec]}", number % 2) for number in range(count)]
    return indexing.build(entries, ("a", "b"), root, workers=0)


@pytest.mark.parametrize("codec", list(SUFFIX))
def test_nvdec_shows_the_frames_that_were_asked_for(tmp_path: Path, codec: str):
    index = made(tmp_path, codec)
    with pipelines.open(index, clip=CLIP, batch=2, views=Views(clips=2), device="cuda", decoder="dali") as stream:
        cut = ClipSampler(clip=CLIP, views=Views(clips=2)).sample
        for batch in stream.epoch():
            assert batch.clip.is_cuda
            assert batch.label.is_cuda
            for clip, row, view in zip(batch.clip.cpu(), batch.video, batch.view, strict=True):
                video = index[int(row)]
                everything = reference.decode(video.path)[:, :, 16:176].astype(np.float32)
                wanted = cut(video.frames, (video.width, video.height), 0, int(row))
                shown = clip.permute(1, 2, 3, 0).numpy()
                distance = np.abs(shown[:, None] - everything[None]).mean(axis=(2, 3, 4))
                assert distance.argmin(axis=1).tolist() == wanted.frames[wanted.positions[int(view)]].tolist()
                assert distance.min(axis=1).max() < 6


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9"])
def test_nvdec_shows_the_same_frames_of_an_excerpt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str):
    """A large file reaches NVDEC as the packets of the needed groups of pictures alone."""
    index = made(tmp_path, codec)
    with pipelines.open(index, clip=CLIP, batch=3, device="cuda", decoder="dali") as stream:
        whole = torch.cat([batch.clip for batch in stream.epoch()])
    honest = Stream._source

    def cut_down(self: Stream, epoch: int, number: int) -> EncodedSource:
        source = honest(self, epoch, number)
        source.excerpts = True
        return source

    monkeypatch.setattr(Stream, "_source", cut_down)
    with pipelines.open(index, clip=CLIP, batch=3, device="cuda", decoder="dali") as stream:
        excerpts = torch.cat([batch.clip for batch in stream.epoch()])
    assert torch.equal(whole, excerpts)


def test_odd_files_are_decoded_in_software_beside_nvdec(tmp_path: Path):
    index = made(tmp_path, "h264")
    videos = list(index.videos())
    videos[1] = dataclasses.replace(videos[1], hidden=1)
    odd = indexing.from_videos(videos, index.classes, index.root)
    options = {"clip": CLIP, "batch": 3, "device": "cuda", "decoder": "dali"}
    with pipelines.open(index, **options) as stream:
        ours = torch.cat([batch.clip for batch in stream.epoch()])
    with pipelines.open(odd, **options) as stream:
        theirs = torch.cat([batch.clip for batch in stream.epoch()])
    assert (ours - theirs).abs().mean() < 6
    assert torch.equal(ours[0], theirs[0])


def test_training_clips_on_the_gpu_are_those_of_the_cpu(tmp_path: Path):
    index = made(tmp_path, "vp9")
    options = {"clip": dataclasses.replace(CLIP, size=96), "batch": 3, "transform": pipelines.TrainTransform(flip=0.5)}
    with pipelines.open(index, device="cpu", **options) as stream:
        ours = [batch for _ in range(2) for batch in stream.epoch()]
    with pipelines.open(index, device="cuda", **options) as stream:
        theirs = [batch for _ in range(2) for batch in stream.epoch()]
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.video, other.video)
        assert (one.clip - other.clip.cpu()).abs().mean() < 6


def test_software_frames_reach_the_gpu_unchanged(tmp_path: Path):
    index = made(tmp_path, "h264")
    options = {"clip": CLIP, "batch": 3, "decoder": "software"}
    with pipelines.open(index, device="cpu", **options) as stream:
        ours = torch.cat([batch.clip for batch in stream.epoch()])
    with pipelines.open(index, device="cuda", **options) as stream:
        theirs = torch.cat([batch.clip.cpu() for batch in stream.epoch()])
    assert (ours - theirs).abs().max() < 1.01


@pytest.mark.parametrize("policy", ["", *augment.POLICIES])
def test_augmentation_looks_the_same_on_both_devices(tmp_path: Path, policy: str):
    index = made(tmp_path, "h264")
    chosen = pipelines.Augment(rand_augment=policy, color_jitter=0.4, erase=0.5)
    transform = pipelines.TrainTransform(augment=chosen)
    options = {"clip": CLIP, "batch": 3, "transform": transform, "decoder": "software"}
    with pipelines.open(index, device="cpu", **options) as stream:
        ours = torch.cat([batch.clip for _ in range(3) for batch in stream.epoch()])
    with pipelines.open(index, device="cuda", **options) as stream:
        theirs = torch.cat([batch.clip.cpu() for _ in range(3) for batch in stream.epoch()])
    assert (ours - theirs).abs().mean() < 2


@pytest.mark.parametrize("clips", [1, 2])
def test_a_slow_consumer_sees_the_clips_that_a_fast_one_sees(tmp_path: Path, clips: int):
    """Work on a batch that waits behind a busy kernel while DALI moves on reads that batch, not a later one."""
    index = made(tmp_path, "h264", count=12)
    options = {"clip": CLIP, "batch": 2, "views": Views(clips=clips), "device": "cuda", "decoder": "dali"}
    with pipelines.open(index, **options) as stream:
        prompt = torch.cat([batch.clip.cpu() for batch in stream.epoch()])
    late = []
    with pipelines.open(index, **options) as stream:
        for batch in stream.epoch():
            torch.cuda._sleep(500_000_000)  # cycles: a quarter of a second
            late.append(batch.clip * 1)
            del batch
    assert torch.equal(prompt, torch.cat(late).cpu())


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("extent", ["tv", "pc"])
@pytest.mark.parametrize("matrix", ["unknown", "bt709", "bt2020nc"])
def test_nvdec_shows_the_tagged_colors(tmp_path: Path, codec: str, matrix: str, extent: str):
    path = chart.film(tmp_path / f"a.{SUFFIX[codec]}", codec, matrix, extent)
    index = indexing.build([(path, 0)], ("a",), tmp_path, workers=0)
    clip = dataclasses.replace(CLIP, size=6 * chart.PATCH, short_side=6 * chart.PATCH, frames=4, stride=1)
    shown = {}
    for decoder in ("dali", "software"):
        with pipelines.open(index, clip=clip, batch=1, device="cuda", decoder=decoder) as stream:
            pictures = next(stream.epoch()).clip[0, :, 0].permute(1, 2, 0).cpu().numpy()
            shown[decoder] = pictures[chart.PATCH // 2 :: chart.PATCH, chart.PATCH // 2 :: chart.PATCH]
    error = float(((shown["dali"] - shown["software"]) ** 2).mean())
    assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 45
