"""The verbs that measure, compare and transcode: real decoders, whole commands, what is remembered is used."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from reelbench import models, pipelines
from reelbench.harness.decoders import bench, certify, chart
from reelbench.pipelines import _decoder_cache, decoder_choice, stream
from reelbench.pipelines.index import Index, build
from reelbench.result import Metric
from reelbench.spec import Clip
from safetensors.torch import save_file


@pytest.fixture
def reelbench(reelbench: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run a command line on small clips, with a cache of its own."""
    monkeypatch.setenv("REELBENCH_CACHE", str(tmp_path / "cache"))
    small = Clip(frames=4, stride=2, size=32, short_side=32)
    monkeypatch.setattr(bench, "CLIPS", {"dense": small, "segments": dataclasses.replace(small, sampling="segments")})
    monkeypatch.setattr(bench, "WARM_UP", 1)
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    monkeypatch.setattr(certify, "CLIP", dataclasses.replace(small, frames=8, size=64, short_side=64, **plain))
    return reelbench


def speed(sampling: str, decoder: str, clips: float) -> bench.Speed:
    return bench.Speed(
        device="cpu", sampling=sampling, decoder=decoder, clips=Metric(value=clips, unit="clips/s"),  # type: ignore[arg-type]
        frames=0.0, decoded=0.0, cores=0.0, memory=0.0, threads=2,
    )  # fmt: skip


def test_the_fastest_is_recommended_for_each_sampling() -> None:
    speeds = [("dense", "dali", 3), ("dense", "software", 2), ("segments", "dali", 5), ("segments", "software", 9)]
    assert bench.recommend(tuple(speed(*row) for row in speeds)) == {"dense": "dali", "segments": "software"}


def test_what_is_remembered_is_used_for_this_index_alone(
    tiny_synthetic: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELBENCH_CACHE", str(tmp_path))
    index, other = Index.load(tiny_synthetic["train"]), Index.load(tiny_synthetic["val"])

    def chosen(index: Index, sampling: str) -> str:
        return pipelines.open(index, clip=Clip(frames=2, size=32, short_side=32, sampling=sampling), batch=1).decoder  # type: ignore[arg-type]

    assert chosen(index, "dense") == "dali"
    _decoder_cache.remember(index, "cpu", {"dense": "software", "segments": "dali"})
    assert [chosen(index, sampling) for sampling in ("dense", "segments", "uniform")] == ["software", "dali", "dali"]
    assert chosen(other, "dense") == "dali"
    _decoder_cache.remember(index, "cuda", {"dense": "dali"})
    assert chosen(index, "dense") == "software"
    _decoder_cache.remember(index, "cpu", {"dense": "nonsense"})
    assert chosen(index, "dense") == "dali"


def test_a_gpu_is_measured_with_batches_and_threads_that_fill_its_engines(
    tiny_index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.nvdec, "engines", lambda: 7)
    monkeypatch.setattr(pipelines, "decoders", lambda index, device: ("dali", "software"))
    asked: list[tuple[str, int]] = []

    def speed(index: Index, sampling: str, decoder: str, *, threads: int, **_: object) -> None:
        asked.append((decoder, threads))

    monkeypatch.setattr(bench, "speed", speed)
    told: list[bench.Speed] = []
    bench.bench(tiny_index, device="cuda", workers=2, seconds=1.0, report=lambda text: None, measured=told.append)
    assert len(told) == len(asked)  # one by one: a bench that is cut short has shown what it measured
    assert asked == 2 * [("dali", 2), ("dali", 7), ("dali", 14), ("dali", 28), ("software", 2)]
    assert bench.BATCH["cuda"] >= 16


def test_frames_to_decode_are_counted_from_the_key_frames(tiny_index: Index) -> None:
    """Key frames are 8 apart in 16 frames: one frame costs 4.5 on average, all of them cost one each."""
    everything = Clip(frames=16, size=32, short_side=32)
    assert bench.decoded_per_frame(tiny_index, everything) == 1.0
    assert 1.0 < bench.decoded_per_frame(tiny_index, Clip(frames=2, size=32, sampling="segments")) < 8.0


@pytest.mark.slow  # measures every decoder at two samplings
def test_bench_measures_every_decoder_and_remembers(reelbench, tiny_synthetic: dict[str, Path]) -> None:
    code, out, _ = reelbench("data", "bench", tiny_synthetic["train"], "--seconds", 0.5, "--device", "cpu")
    assert code == 0
    rows = [line.split() for line in out.splitlines()[1:5]]
    assert [(row[0], row[1]) for row in rows] == [
        ("dense", "DALI"), ("dense", "PyAV"), ("segments", "DALI"), ("segments", "PyAV")
    ]  # fmt: skip
    assert out.splitlines()[0].split()[:3] == ["sampling", "decoder", "threads"]
    assert "recommended for dense: " in out
    remembered = _decoder_cache.recall(Index.load(tiny_synthetic["train"]), "cpu", "dense")
    assert f"recommended for dense: {remembered}" in out


@pytest.mark.slow  # encodes, and measures decoders
@pytest.mark.exhaustive
def test_transcode_says_how_much_faster_it_got(reelbench, tiny_synthetic: dict[str, Path], tmp_path: Path, monkeypatch):
    from reelbench.harness.cli import data

    monkeypatch.setattr(data, "TRANSCODED_SECONDS", 0.3)
    line = ("data", "transcode", tiny_synthetic["val"], tmp_path / "out", "--gop", 2, "--codec", "vp9", "--workers", 1)
    code, out, _ = reelbench(*line, "--device", "cpu")
    assert code == 0
    assert f"8 videos, 0 skipped -> {tmp_path / 'out' / 'val.parquet'}" in out
    assert out.count("times as fast") == 2
    assert max(Index.load(tmp_path / "out" / "val.parquet")[0].key_frames[1:3]) <= 4


@pytest.mark.slow  # a certificate, and a model tested through two decoders
def test_certify_finds_the_same_frames_and_the_change_in_top1(
    reelbench, tiny_synthetic: dict[str, Path], tmp_path: Path
) -> None:
    model = models.build("tsm/micro", num_classes=len(Index.load(tiny_synthetic["test"]).classes))
    save_file(model.state_dict(), str(tmp_path / "m.safetensors"))
    code, out, _ = reelbench(
        "data", "certify", tiny_synthetic["test"], "--videos", 2, "--device", "cpu",
        "--model", "tsm/micro", "--checkpoint", tmp_path / "m.safetensors",
    )  # fmt: skip
    assert code == 0
    assert [line.split()[:4] for line in out.splitlines()[1:3]] == [
        ["vp9", "dali", "2", "16/16"], ["vp9", "software", "2", "16/16"]
    ]  # fmt: skip
    assert "0 of 8 classified anew" in out
    code, _, err = reelbench("data", "certify", tiny_synthetic["test"], "--model", "tsm/micro")
    assert (code, err.count("\n")) == (2, 1)


def test_several_labels_a_video_are_compared_by_their_map(tiny_index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two decoders shows the first video black, and one class of it is found no more."""
    labels = torch.eye(8)[:4]

    def opened(index: Index, *, decoder: str, **_: object):
        clip = torch.zeros(4, 3, 2, 1, 1)
        clip[:, 0] = (torch.arange(4) >= (decoder == "dali")).float()[:, None, None, None]
        batch = SimpleNamespace(clip=clip, label=labels, video=torch.arange(4))
        return nullcontext(
            SimpleNamespace(
                epoch=lambda: [batch], metric="map", listed=4, classes=index.classes, skipped=(), decoder=decoder
            )
        )

    monkeypatch.setattr(certify.pipelines, "open", opened)
    monkeypatch.setattr(certify.pipelines, "decoders", lambda *_: ("software", "dali"))
    bright = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 8))
    monkeypatch.setattr(certify.models, "build", lambda *_, **__: bright)
    monkeypatch.setattr(certify.models, "load_checkpoint", lambda *_: "")
    torch.nn.init.constant_(bright[1].weight, 1.0)
    torch.nn.init.constant_(bright[1].bias, -1.0)
    several = dataclasses.replace(tiny_index, multi_label=True)
    options = {"device": "cpu", "workers": 1, "report": lambda _: None}
    found = certify.compare_accuracy(several, "tsm/micro", {}, **options)
    assert [(verdict.decoder, verdict.metric, verdict.changed) for verdict in found] == [
        ("software", "map", 0), ("dali", "map", 1)
    ]  # fmt: skip


@pytest.mark.slow  # decodes with every decoder
@pytest.mark.exhaustive
def test_certify_fails_where_frames_are_wrong(
    reelbench, tiny_synthetic: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reference that is one frame late stands for a decoder that is one early."""
    from reelbench.pipelines import reference

    def late(*arguments):
        shown = honest(*arguments)
        return shown[[0, *range(len(shown) - 1)]]

    honest = reference.decode
    monkeypatch.setattr(reference, "decode", late)
    shutil.copytree(tiny_synthetic["test"].parent, tmp_path / "set")
    code, out, _ = reelbench("data", "certify", tmp_path / "set" / "test.parquet", "--videos", 1, "--device", "cpu")
    assert code == 1
    assert "0/8" in out or "1/8" in out


@pytest.mark.slow  # two certificates, each by every decoder
@pytest.mark.exhaustive
def test_certify_holds_decoders_to_the_colors_of_a_chart(reelbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chart.film(tmp_path / "a.webm", "vp9", "bt709", "tv")
    build([("a.webm", 0)], ("a",), tmp_path, workers=0).save(tmp_path / "a.parquet")
    code, out, _ = reelbench("data", "certify", tmp_path / "a.parquet", "--device", "cpu")
    assert code == 0
    assert out.count("colors of a chart, vp9 bt709 tv, ") == 1
    monkeypatch.setattr(decoder_choice, "WEIGHTS", {})  # which leaves it to DALI
    monkeypatch.setattr(stream, "WEIGHTS", {})  # and turns the correction off
    code, out, _ = reelbench("data", "certify", tmp_path / "a.parquet", "--device", "cpu")
    assert code == 1
    assert "chart, vp9 bt709 tv, dali: 31" in out  # decibels


@pytest.mark.slow  # a certificate
@pytest.mark.exhaustive
def test_certify_shows_where_chroma_lies_in_odd_sizes_and_names_what_cannot_be_read(reelbench, tmp_path: Path):
    chart.film(tmp_path / "a.webm", "vp9", "smpte170m", "tv", odd=True)
    shutil.copy(tmp_path / "a.webm", tmp_path / "b.webm")
    build([("a.webm", 0), ("b.webm", 0)], ("a",), tmp_path, workers=0).save(tmp_path / "a.parquet")
    (tmp_path / "b.webm").write_bytes(b"no video")
    code, out, _ = reelbench("data", "certify", tmp_path / "a.parquet", "--device", "cpu")
    assert (code, out.count("changed since it was indexed")) == (1, 1)
    for decoder in ("dali", "software"):
        (line,) = [line for line in out.splitlines() if f"chart, vp9 smpte170m tv odd size, {decoder}: " in line]
        assert float(line.split()[-2]) > certify.ALIKE


@pytest.mark.parametrize("verb", ["bench", "transcode", "certify"])
def test_every_verb_explains_itself_with_an_example(reelbench, verb: str) -> None:
    code, out, _ = reelbench("data", verb, "--help")
    assert code == 0
    assert "Example: reelbench data" in out
