"""What goes wrong on the GPU is raised as that: a file is barred only for what it does by itself, in software too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.pipelines import _device_errors, _handover, _watchdog
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import encode
from reelbench.pipelines._files import Files
from reelbench.pipelines._watchdog import DecodeReport
from reelbench.pipelines.index import Index
from reelbench.pipelines.source import BatchSampler, ClipSampler, EncodedSource
from reelbench.pipelines.stream import Stream
from reelbench.spec import Clip

CLIP = Clip(frames=2, stride=2, size=32, short_side=32)
BAD = 3
NOWHERE = 99  # a GPU that no machine has
DALIS = """Critical error in pipeline:
Error in MIXED operator `nvidia.dali.fn.decoders.video`,
which was used in the pipeline definition with the following traceback:

  File "dali.py", line 135, in alone
    return fn.decoders.video(encoded, device="mixed" if on_gpu else "cpu", frames=frames, pad_mode="none")

encountered:

{}
C++ context: [/opt/dali/dali/operators/video/frames_decoder_gpu.cc:246]
Current pipeline object is no longer valid.
"""
TOO_SMALL = "Video is too small in at least one dimension. Provided: 64x64 vs supported:128x128"
FULL = "CUDA driver API error CUDA_ERROR_OUT_OF_MEMORY (2): out of memory"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Six videos, of which the fourth breaks off."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(6):
        frames = np.random.default_rng(number).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
        encode(root / f"{number}.webm", frames.repeat(8, axis=1).repeat(8, axis=2), codec="vp9", fps=25, gop=6)
    return indexing.build([(f"{number}.webm", number % 2) for number in range(6)], ("a", "b"), root, workers=0)


def source(index: Index) -> EncodedSource:
    order = BatchSampler(total=len(index), batch=2, training=False)
    return EncodedSource(Files(index), order, ClipSampler(clip=CLIP))


@pytest.mark.slow  # starts decoders
def test_what_only_the_gpu_fails_to_decode_is_not_broken(index: Index, tmp_path: Path) -> None:
    """Every video fails on a GPU that is not there; by itself, one is cut short."""
    broken = indexing.from_videos(list(index.videos())[:2], index.classes, index.root)
    (tmp_path / "bad.webm").write_bytes(bytes(5000))
    broken.table.loc[1, ["path", "hash", "size"]] = [
        str(tmp_path / "bad.webm"), indexing.file_hash(tmp_path / "bad.webm"), 5000
    ]  # fmt: skip
    found = _watchdog.find_failing_videos(source(broken), [(0, 0), (0, 1)], NOWHERE)
    assert list(found.failed) == [1]
    assert list(found.gpu_only) == [0]
    assert found.decoded == 0


@pytest.mark.slow  # decoders that fail, one after the other
@pytest.mark.exhaustive
def test_a_gpu_that_decodes_nothing_is_blamed_after_five_videos(index: Index) -> None:
    found = _watchdog.find_failing_videos(source(index), [(0, row) for row in range(6)], NOWHERE)
    assert not found.failed
    assert list(found.gpu_only) == [0, 1, 2, 3, 4]
    assert found.gpu_at_fault


def test_what_follows_an_error_on_a_gpu_is_tried_in_a_fresh_process(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second video spoils the process; only the first failure since a success is the video's own."""
    started: list[list[int]] = []

    def examine(_: EncodedSource, places: list[tuple[int, int]], device: int | None) -> list[str]:
        if device is None:
            return [""] * len(places)
        rows = [row for _, row in places]
        started.append(rows)
        spoilt = rows.index(1) if 1 in rows else len(rows)
        return ["spoilt" if number >= spoilt else "" for number in range(len(rows))]

    monkeypatch.setattr(_watchdog, "_examine", examine)
    found = _watchdog.find_failing_videos(source(index), [(0, row) for row in range(6)], 0)
    assert started == [[0, 1, 2, 3, 4], [2, 3, 4, 5]]
    assert (found.gpu_only, found.decoded, found.failed) == ({1: "spoilt"}, 5, {})


def failing_once(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    """Let the first batch of a stream end in an error."""
    real, failed = _watchdog.call_with_timeout, []

    def call_with_timeout(seconds: float, function: Callable[[], Any]) -> Any:
        if not failed:
            failed.append(True)
            raise RuntimeError(DALIS.format(message))
        return real(seconds, function)

    monkeypatch.setattr(_watchdog, "call_with_timeout", call_with_timeout)


def on_a_gpu_that_is_played(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "_device_id", lambda self: None)
    handed_over = _handover.to_torch
    monkeypatch.setattr(_handover, "to_torch", lambda views, *, on_gpu: handed_over(views, on_gpu=False))
    stream.device = "cuda"


@pytest.mark.slow  # starts decoders
def test_a_video_that_only_the_gpu_refuses_is_decoded_in_software_from_then_on(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing_once(monkeypatch, TOO_SMALL)
    found = DecodeReport(gpu_only={BAD: f"cannot be decoded: {TOO_SMALL}"}, decoded=1)
    monkeypatch.setattr(_watchdog, "find_failing_videos", lambda *_: found)
    with pipelines.open(index, clip=CLIP, batch=2, decoder="dali", workers=1) as stream:
        on_a_gpu_that_is_played(stream, monkeypatch)
        seen = [row for batch in stream.epoch() for row in batch.video.tolist()]
    assert seen == [0, 1, 2, 3, 4, 5]
    assert stream.skipped == ()
    said = capsys.readouterr().err
    assert f"{index[BAD].path}: on the GPU it cannot be decoded: Video is too small" in said


@pytest.mark.slow  # starts decoders
@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (FULL, "choose a smaller batch"),
        ("CUDA allocation failed. Tried to allocate: 8589934592 bytes", "choose a smaller batch"),
        ("Failed to load libnvcuvid.so, needed by the VideoReader operator.", "NVIDIA_DRIVER_CAPABILITIES"),
        ("Codec configuration not supported on this GPU. Codec: AV1", "`reelbench data transcode`"),
        (TOO_SMALL, "`reelbench data transcode`"),
        ("CUDA driver version is insufficient for CUDA runtime version", "`reelbench doctor`"),
        ("CUDA runtime API error cudaErrorIllegalAddress (700)", "`reelbench doctor`"),
    ],
)
def test_an_error_of_the_gpu_is_one_line_with_a_remedy(
    index: Index, monkeypatch: pytest.MonkeyPatch, message: str, remedy: str
) -> None:
    """All files decode by themselves, so that none is at fault."""
    failing_once(monkeypatch, message)
    monkeypatch.setattr(_watchdog, "find_failing_videos", lambda *_: DecodeReport(decoded=2))
    with pipelines.open(index, clip=CLIP, batch=2, decoder="dali", workers=1) as stream:
        on_a_gpu_that_is_played(stream, monkeypatch)
        with pytest.raises(UserError) as raised:
            list(stream.epoch())
    assert message[:60] in str(raised.value)
    assert remedy in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "traceback" not in str(raised.value)
    assert stream.skipped == ()


@pytest.mark.slow  # starts decoders
def test_a_gpu_that_refuses_every_video_ends_the_run_and_bars_none(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_once(monkeypatch, "an error that names nothing")
    asked: list[list[tuple[int, int]]] = []

    def find_failing_videos(_: EncodedSource, samples: Iterable[tuple[int, int]], device: int | None) -> DecodeReport:
        asked.append(list(samples))
        return DecodeReport(gpu_only={row: f"cannot be decoded: {FULL}" for _, row in samples})

    monkeypatch.setattr(_watchdog, "find_failing_videos", find_failing_videos)
    with pipelines.open(index, clip=CLIP, batch=2, decoder="dali", workers=1) as stream:
        on_a_gpu_that_is_played(stream, monkeypatch)
        with pytest.raises(UserError, match="memory is full"):
            list(stream.epoch())
    assert asked == [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(0, 4), (0, 5)]]
    assert stream.skipped == ()


@pytest.mark.slow  # starts decoders
def test_a_video_that_was_shown_before_proves_the_gpu_sound(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a batch of nothing but odd videos is not taken for a GPU that decodes nothing."""
    asked: list[list[tuple[int, int]]] = []

    def find_failing_videos(_: EncodedSource, samples: Iterable[tuple[int, int]], device: int | None) -> DecodeReport:
        asked.append(list(samples))
        return DecodeReport(gpu_only={2: "is odd", 3: "is odd"}, decoded=1)

    monkeypatch.setattr(_watchdog, "find_failing_videos", find_failing_videos)
    with pipelines.open(index, clip=CLIP, batch=2, decoder="dali", workers=1) as stream:
        on_a_gpu_that_is_played(stream, monkeypatch)
        batches = stream.epoch()
        seen = next(batches).video.tolist()
        failing_once(monkeypatch, "an error that names nothing")
        seen += [row for batch in batches for row in batch.video.tolist()]
    assert asked == [[(0, 0), (0, 2), (0, 3)]]
    assert seen == [0, 1, 2, 3, 4, 5]


def test_a_gpu_that_is_not_there_is_named_when_the_pipeline_is_built(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipelines.open(index, clip=CLIP, batch=2, decoder="dali", workers=1) as stream:
        stream.device = "cuda"
        monkeypatch.setattr(Stream, "_device_id", lambda self: NOWHERE)
        with pytest.raises(UserError, match="GPU: .*CUDA.*: see `reelbench doctor`"):
            list(stream.epoch())


def test_an_error_of_no_device_stays_what_it_is() -> None:
    assert _device_errors.explained(RuntimeError("list index out of range")) is None
