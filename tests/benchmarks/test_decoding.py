"""Decoding speed against a plain PyAV + torch DataLoader with as many processes, and memory over many batches.

Skipped by default; `pytest tests/benchmarks/test_decoding.py --benchmark-only` on an otherwise idle machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import torch
from reelbench import pipelines
from reelbench.pipelines import index as indexing
from reelbench.pipelines import synthetic
from reelbench.pipelines._encode import CODECS, encode
from reelbench.pipelines.index import Index
from reelbench.pipelines.source import ClipSampler
from reelbench.spec import Clip
from torch.utils.data import DataLoader, Dataset

WORKERS, BATCH, VIDEOS, ROUNDS = 2, 4, 24, 3
LEVEL, MEASURED = 300, 2000  # batches before memory is level, and those it is then measured over
CLIPS = {"dense": Clip(frames=32, stride=2), "segments": Clip(frames=8, sampling="segments")}


class Plain(Dataset):
    """What one writes by hand: seek, decode up to the last frame, crop, interpolate, normalise. Videos come again."""

    def __init__(self, index: Index, clip: Clip) -> None:
        self.videos, self.clip = list(index.videos()), clip
        self.clip_sampler = ClipSampler(clip=clip, transform=pipelines.TrainTransform(flip=0.5))

    def __len__(self) -> int:
        return len(self.videos) * 1000

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        video = self.videos[row % len(self.videos)]
        spec = self.clip_sampler.sample(video.frames, (video.width, video.height), 0, row)
        x0, y0, x1, y1 = (round(float(edge)) for edge in spec.boxes[0])
        frames = torch.from_numpy(np.stack(decode(video, spec.frames)))[:, y0:y1, x0:x1].permute(0, 3, 1, 2).float()
        size = (self.clip.size, self.clip.size)
        frames = torch.nn.functional.interpolate(frames, size=size, mode="bilinear", align_corners=False)
        frames = frames.flip(-1) if spec.flip else frames
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.clip.mean, self.clip.std))
        frames = (frames - mean) / std
        return frames[torch.from_numpy(spec.positions[0]).long()].transpose(0, 1).contiguous(), 0


def decode(video: indexing.Video, wanted: np.ndarray) -> list[np.ndarray]:
    times, found = set(video.pts[wanted].tolist()), []
    with av.open(str(video.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(video.pts[wanted[0]]), stream=stream)
        for frame in container.decode(stream):
            if frame.pts in times:
                found.append(frame.to_ndarray(format="rgb24"))
            if frame.pts >= video.pts[wanted[-1]]:
                return found
    raise AssertionError("frames are missing")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Index]:
    """Kinetics-like videos, 340x256, 240 frames, key frames 64 apart."""

    def make(codec: str) -> Index:
        root = tmp_path_factory.mktemp(codec)
        video = indexing.scan(film(root, codec, 240), 0)
        return indexing.from_videos([video] * VIDEOS, ("a",), root)

    return make


def film(root: Path, codec: str, frames: int) -> Path:
    """Write a film of drifting detail, 340x256."""
    rng = np.random.default_rng(0)
    detail = rng.integers(0, 256, (512, 640, 3), dtype=np.uint8).astype(np.float32)
    for _ in range(3):
        detail = (detail + np.roll(detail, 1, 0) + np.roll(detail, 1, 1) + np.roll(detail, 2, 1)) / 4
    detail = np.clip((detail - detail.mean()) * 4 + 128, 0, 255).astype(np.uint8)
    path = root / f"film{CODECS[codec].suffix}"
    pictures = (np.ascontiguousarray(detail[t // 2 : t // 2 + 256, t : t + 340]) for t in range(frames))
    encode(path, pictures, codec=codec, fps=25, gop=64)
    return path


def used() -> float:
    """Processor seconds of this process and its children."""
    here = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in (here, *here.children(recursive=True)))


@pytest.mark.parametrize("kind", list(CLIPS))
@pytest.mark.parametrize("codec", ["vp9", "h264"])
@pytest.mark.parametrize("loader", ["plain", "dali", "software"])
def test_clips_a_second(benchmark, footage: Callable[[str], Index], codec: str, kind: str, loader: str):
    if loader == "dali" and codec == "h264":
        pytest.skip("DALI's CPU decoder has no H.264")
    index, clip = footage(codec), CLIPS[kind]
    torch.set_num_threads(1)
    with ExitStack() as opened:
        if loader == "plain":
            batches = iter(DataLoader(Plain(index, clip), batch_size=BATCH, num_workers=WORKERS))
            sizes = (len(clip) for clip, _ in batches)
        else:
            stream = opened.enter_context(
                pipelines.open(
                    index,
                    clip=clip,
                    batch=BATCH,
                    transform=pipelines.TrainTransform(flip=0.5),
                    workers=WORKERS,
                    decoder=loader,
                )
            )
            sizes = (len(batch.clip) for _ in itertools.count() for batch in stream.epoch())
        rates(benchmark, lambda: sum(itertools.islice(sizes, VIDEOS // BATCH)))


def rates(benchmark, run: Callable[[], int]) -> None:
    """Time runs of `VIDEOS` clips after a first one, and note what they cost in all processes together."""
    run()
    before = used()
    benchmark.pedantic(run, rounds=ROUNDS, iterations=1)
    benchmark.extra_info["clips_a_second"] = VIDEOS / benchmark.stats["median"]
    benchmark.extra_info["processor_ms_a_clip"] = (used() - before) / (ROUNDS * VIDEOS) * 1e3


@pytest.mark.parametrize("decoder", ["dali", "software"])
def test_memory_stays_level(benchmark, tmp_path: Path, decoder: str):
    """Resident memory of this process and the workers grows by less than 0.1 MiB a batch after batch 300."""
    index = Index.load(synthetic.make(tmp_path, videos=(48, 0, 0), progress=False)["train"])

    def slope() -> float:
        seen = []
        with pipelines.open(
            index,
            clip=Clip(frames=4, size=56, short_side=64),
            batch=4,
            transform=pipelines.TrainTransform(),
            workers=WORKERS,
            decoder=decoder,
        ) as stream:
            for _ in itertools.islice((batch for _ in itertools.count() for batch in stream.epoch()), LEVEL + MEASURED):
                here = psutil.Process()
                seen.append(sum(p.memory_info().rss for p in (here, *here.children(recursive=True))) / 2**20)
        return float(np.polyfit(np.arange(MEASURED), seen[LEVEL:], 1)[0])

    found = benchmark.pedantic(slope, rounds=1, iterations=1)
    benchmark.extra_info["mib_a_batch"] = found
    assert found < 0.1


@pytest.mark.parametrize("frames", [16, 240])
@pytest.mark.parametrize("codec", ["vp9", "h264"])
def test_files_indexed_a_second(benchmark, tmp_path: Path, codec: str, frames: int):
    """Short files from a warm cache, in this process alone."""
    first = film(tmp_path, codec, frames)
    content, entries = first.read_bytes(), []
    for number in range(200):
        entries.append((f"{number}{first.suffix}", 0))
        (tmp_path / entries[-1][0]).write_bytes(content)
    before = used()
    found = benchmark.pedantic(
        lambda: indexing.build(entries, ("a",), tmp_path, workers=0, progress=False), rounds=3, iterations=1
    )
    assert len(found) == len(entries)
    benchmark.extra_info["files_a_second"] = len(entries) / benchmark.stats["median"]
    benchmark.extra_info["files_a_processor_second"] = 3 * len(entries) / (used() - before)
