"""Other libraries' decoders in `data bench`: what stands in for one is measured and compared; a missing one is told."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.harness.decoders import bench, decoder_load, rivals
from reelbench.harness.measuring import nvml
from reelbench.pipelines import TrainTransform, reference
from reelbench.pipelines import rivals as libraries
from reelbench.pipelines.index import Index, Video
from reelbench.pipelines.rivals import decord2, pynvvideocodec, torchcodec
from reelbench.pipelines.source import BatchSampler, ClipSampler
from reelbench.spec import Clip, Views

CLIP = Clip(frames=4, stride=2, size=32, short_side=32)


def read(video: Video, frames: np.ndarray) -> torch.Tensor:
    """Stand in for a library that shows the right frames."""
    return torch.from_numpy(reference.decode(video.path)[frames])


@pytest.fixture
def quick_bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELBENCH_CACHE", str(tmp_path))
    sparse = dataclasses.replace(CLIP, sampling="segments")
    monkeypatch.setattr(bench, "CLIPS", {"dense": CLIP, "segments": sparse})
    monkeypatch.setattr(rivals, "CLIPS", bench.CLIPS)
    monkeypatch.setattr(bench, "WARM_UP", 1)


def library(make) -> types.SimpleNamespace:
    return types.SimpleNamespace(PACKAGE="other", DEVICES=("cpu",), reader=make)


def absent(device: str):
    raise ModuleNotFoundError("No module named 'other'")


def broken(device: str):
    raise RuntimeError("no driver\nat all")


@pytest.mark.exhaustive
@pytest.mark.slow  # measures three decoders at two samplings each
@pytest.mark.usefixtures("quick_bench")
def test_a_library_stands_in_the_table_beside_ours(
    tiny_index: Index, tiny_synthetic: dict[str, Path], reelbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that decodes is measured, its frames compared; one that is missing or cannot costs a line."""
    found = {"plain": library(lambda device: read), "absent": library(absent), "broken": library(broken)}
    monkeypatch.setattr(libraries, "find", lambda device: found)
    line = ("data", "bench", tiny_synthetic["train"], "--seconds", 0.5, "--device", "cpu", "--workers", 1)
    code, out, _ = reelbench(*line, "--rivals")
    rows = [row.split() for row in out.splitlines()]
    assert code == 0
    assert [row[-1] for row in rows if row[1] == "plain"] == ["32/32", "32/32"]
    assert [row[0] for row in rows[1:7]] == ["dense"] * 2 + ["segments"] * 2 + ["dense", "segments"]
    assert "other is not installed: `pip install other` to compare with it" in out
    assert "other cannot decode this here: no driver at all" in out
    assert "recommended for dense: plain" not in out


def test_a_library_that_is_a_frame_late_is_found(tiny_index: Index) -> None:
    assert rivals.identical(tiny_index, read) == (32, 32)
    right, total = rivals.identical(tiny_index, lambda video, frames: read(video, (frames + 1) % video.frames))
    assert total == 32
    assert right <= rivals.CHECKED  # after a video's last frame comes its first


def test_its_clips_are_ours(tiny_index: Index) -> None:
    """The same frames of the same boxes in the same order; box edges are rounded, so that pixels differ a little."""
    options = {"clip": CLIP, "transform": TrainTransform()}
    with pipelines.open(tiny_index, batch=4, decoder="software", **options) as stream:
        batches = [batch for _ in range(2) for batch in stream.epoch()]
    order = BatchSampler(total=len(tiny_index), batch=4, training=True)
    theirs = libraries.batches(tiny_index, ClipSampler(views=Views(), **options), order, lambda: read, workers=2)
    for batch in batches:
        clips = next(theirs)
        assert clips.shape == batch.clip.shape
        apart = (clips - batch.clip).abs().mean(dim=(1, 2, 3, 4))
        assert (apart < 0.5 * (clips.roll(1, 0) - batch.clip).abs().mean(dim=(1, 2, 3, 4))).all()
    theirs.close()


class Decoder:
    """Stands in for torchcodec's: shows the numbers of the frames that it is asked for."""

    asked: ClassVar[dict] = {}
    backend: ClassVar[str | None] = None
    cpu_fallback = "unsupported"

    def __init__(self, path: str, **options) -> None:
        Decoder.asked = {"backend": Decoder.backend, **options}

    def get_frames_at(self, frames: list[int]) -> types.SimpleNamespace:
        return types.SimpleNamespace(data=torch.tensor(frames))


@contextmanager
def backend(name: str) -> Iterator[None]:
    Decoder.backend = name
    yield
    Decoder.backend = None


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = types.SimpleNamespace(VideoDecoder=Decoder, set_cuda_backend=backend)
    monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)


@pytest.mark.usefixtures("stubbed")
def test_torchcodec_is_told_what_the_index_knows(tiny_index: Index) -> None:
    video = tiny_index[0]
    assert torchcodec.reader("cpu")(video, np.array([1, 5])).tolist() == [1, 5]
    assert Decoder.asked["stream_index"] == video.stream
    assert Decoder.asked["backend"] is None  # the CPU knows none
    mapping = json.loads(Decoder.asked["custom_frame_mappings"])["frames"]
    assert [row["pts"] for row in mapping] == video.pts.tolist()
    assert [n for n, row in enumerate(mapping) if row["key_frame"]] == video.key_frames.tolist()
    assert min(row["duration"] for row in mapping) > 0


@pytest.mark.usefixtures("stubbed")
def test_torchcodec_does_not_decode_on_the_cpu_in_silence(tiny_index: Index) -> None:
    with pytest.raises(UserError, match="on the CPU: unsupported"):
        torchcodec.reader("cuda")(tiny_index[0], np.array([1, 5]))
    assert Decoder.asked["backend"] == "beta"


def test_pynvvideocodec_leaves_no_frame_out_in_silence(tiny_index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    class Simple:
        def __init__(self, path: str, **_: object) -> None:
            self.paths = [path]

        def reconfigure_decoder(self, path: str) -> None:
            self.paths.append(path)

        def get_batch_frames_by_index(self, frames: list[int]) -> list[torch.Tensor]:
            return [torch.full((2, 2, 3), number) for number in frames if number < 10]

    color = types.SimpleNamespace(RGB="rgb")
    stub = types.SimpleNamespace(SimpleDecoder=Simple, OutputColorType=color)
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", stub)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    found = pynvvideocodec.reader("cuda")
    assert found(tiny_index[0], np.array([1, 5]))[:, 0, 0, 0].tolist() == [1, 5]
    with pytest.raises(UserError, match="finds 1 of 2 frames"):
        found(tiny_index[1], np.array([1, 15]))


@pytest.mark.parametrize(("name", "module"), [("decord", decord2), ("torchcodec", torchcodec)])
def test_the_installed_library_shows_the_right_frames(tiny_index: Index, name: str, module) -> None:
    pytest.importorskip(name, exc_type=ImportError)
    assert rivals.identical(tiny_index, module.reader("cpu")) == (32, 32)


def test_the_load_of_the_decoders_is_their_median(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(10, 0), (90, 0), (50, 0)])  # then the driver tells no more
    monkeypatch.setattr(nvml, "handle", lambda device: "handle")
    monkeypatch.setattr(nvml, "read", lambda name, handle: next(answers, None))
    monkeypatch.setattr(decoder_load, "PERIOD", 0.0)
    with decoder_load.watch(torch.device("cuda")) as load:
        while len(load.samples) < 3:
            time.sleep(0.01)
    assert load.percent == 50
    with decoder_load.watch(torch.device("cpu")) as load:
        pass
    assert load.percent is None
