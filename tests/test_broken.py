"""What breaks during a run is passed over, named and counted: read errors, decode errors, crashes, hangs, mutants."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.pipelines import TrainTransform, _watchdog
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import CODECS, encode
from reelbench.pipelines._files import Files
from reelbench.pipelines.index import Index
from reelbench.pipelines.source import BatchSampler, ClipSampler, EncodedSource
from reelbench.pipelines.stream import Stream
from reelbench.spec import Clip

CLIP = Clip(frames=4, stride=2, size=32, short_side=32)
BAD = 3


def film(path: Path, codec: str = "vp9", frames: int = 12, seed: int = 0, block: int = 8) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (frames, 8, 8, 3), dtype=np.uint8)
    encode(path, coarse.repeat(block, axis=1).repeat(block, axis=2), codec=codec, fps=25, gop=6)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Six videos, of which the fourth is going to break."""
    for number in range(6):
        film(tmp_path / f"{number}.webm", seed=number)
    return indexing.build([(f"{n}.webm", n % 2) for n in range(6)], ("a", "b"), tmp_path, workers=0)


def undecodable(index: Index) -> Index:
    """The bad video as bytes that are no video, and an index that knows no better."""
    path = index[BAD].path
    path.write_bytes(bytes(5000))
    videos = list(index.videos())
    videos[BAD] = dataclasses.replace(videos[BAD], size=5000, hash=indexing.file_hash(path))
    return indexing.from_videos(videos, index.classes, index.root)


def flipped(index: Index) -> Index:
    content = bytearray(index[BAD].path.read_bytes())
    content[len(content) // 2] ^= 1
    index[BAD].path.write_bytes(content)
    return index


def vanished(index: Index) -> Index:
    index[BAD].path.unlink()
    return index


def replaced(index: Index) -> Index:
    index[BAD].path.unlink()
    index[BAD].path.mkdir()
    return index


def forbidden(index: Index) -> Index:
    index[BAD].path.chmod(0)
    if os.access(index[BAD].path, os.R_OK):
        pytest.skip("this user may read everything")
    return index


def odd(index: Index) -> Index:
    """Its index says 0 x 0, over which sampling stumbles with an exception of Python's."""
    videos = list(index.videos())
    videos[BAD] = dataclasses.replace(videos[BAD], width=0, height=0)
    return indexing.from_videos(videos, index.classes, index.root)


BREAKAGES = [
    (vanished, "No such file"),
    (forbidden, "Permission denied"),
    (flipped, "changed since it was indexed"),
    (replaced, "changed since it was indexed"),
    (undecodable, "cannot be decoded"),
    (odd, "Error: "),
]


@pytest.mark.slow  # starts decoders
@pytest.mark.parametrize("decoder", ["dali", "software"])
@pytest.mark.parametrize(("breakage", "reason"), BREAKAGES, ids=lambda v: getattr(v, "__name__", ""))
def test_a_test_leaves_it_out_and_names_it(
    index: Index, breakage: Callable[[Index], Index], reason: str, decoder: str
) -> None:
    index = breakage(index)
    with pipelines.open(index, clip=CLIP, batch=2, decoder=decoder, workers=1) as stream:
        seen = [batch.video.tolist() for batch in stream.epoch()]
    assert seen == [[0, 1], [2], [4, 5]]
    (broken,) = stream.skipped
    assert broken.path == str(index[BAD].path)
    assert reason in broken.reason


@pytest.mark.slow  # starts decoders
def test_training_shows_another_video_which_the_seed_alone_chooses(index: Index) -> None:
    index, options = vanished(index), {"clip": CLIP, "transform": TrainTransform(flip=0.5)}

    def epochs(**more) -> list[tuple[list[int], list[int], float]]:
        with pipelines.open(index, **options, **more) as stream:
            found = [list(stream.epoch()) for _ in range(2)]
        assert [Path(broken.path).name for broken in stream.skipped] == [index[BAD].path.name]
        return [(b.video.tolist(), b.label.tolist(), float(b.clip[:, :, 0].sum())) for e in found for b in e]

    one = epochs(batch=6, workers=2)
    two = epochs(batch=3, workers=1)
    assert [len(videos) for videos, _, _ in one] == [6, 6]
    for number, (videos, labels, _) in enumerate(one):
        assert BAD not in videos
        assert labels == [video % 2 for video in videos]
        assert two[2 * number][0] + two[2 * number + 1][0] == videos
        assert two[2 * number][2] + two[2 * number + 1][2] == pytest.approx(one[number][2], rel=1e-4)


@pytest.mark.parametrize("step", ["clip_spec", "content"])
def test_whatever_a_file_makes_a_worker_raise_costs_one_video(
    index: Index, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    files, clip_sampler = Files(index), ClipSampler(clip=CLIP)
    source = EncodedSource(files, BatchSampler(total=6, batch=1, training=False), clip_sampler)
    honest = getattr(source, step)

    def raises(*arguments):
        if BAD in (arguments[0], arguments[-1]):
            raise ZeroDivisionError("no size")
        return honest(*arguments)

    monkeypatch.setattr(source, step, raises)
    *_, skipped = source(SimpleNamespace(iteration=BAD, idx_in_batch=0))
    assert json.loads(bytes(skipped)) == [[BAD, "ZeroDivisionError: no size"]]


def test_a_disk_that_is_gone_ends_the_run(index: Index) -> None:
    for video in index.videos():
        video.path.unlink()
    with (
        pytest.raises(
            UserError, match=r"^/[^\[]* videos in a row: is the disk there\? `reelbench data check` lists them$"
        ),
        pipelines.open(index, clip=CLIP, batch=2, transform=TrainTransform()) as stream,
    ):
        list(stream.epoch())


TREACHEROUS = """
import os, signal, time
from reelbench.pipelines.software import DecodedSource

class Hanging(DecodedSource):
    def content(self, row, cut):
        if row == 3 and row not in self.undecodable:
            time.sleep(1000)
        return super().content(row, cut)

class Crashing(DecodedSource):
    def content(self, row, cut):
        if row == 3 and row not in self.undecodable:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().content(row, cut)
"""


@pytest.mark.slow  # waits for a decoder that hangs, and starts another
@pytest.mark.parametrize(
    ("name", "reason"), [("Hanging", "hangs"), pytest.param("Crashing", "crashes", marks=pytest.mark.exhaustive)]
)
def test_a_decoder_that_hangs_or_crashes_costs_one_video(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    (tmp_path / "treacherous.py").write_text(TREACHEROUS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "treacherous", raising=False)
    import treacherous  # type: ignore[import-not-found]

    def source(self: Stream, epoch: int, number: int):
        return getattr(treacherous, name)(*real(self, epoch, number), undecodable=self._undecodable)

    def real(stream: Stream, epoch: int, number: int):
        return Files(stream._index), stream._batch_sampler, stream._clip_sampler, epoch, number

    monkeypatch.setattr(Stream, "_source", source)
    monkeypatch.setattr(_watchdog, "BATCH_TIMEOUT", 3.0)
    monkeypatch.setattr(_watchdog, "FILE_TIMEOUT", 2.0)
    with pipelines.open(index, clip=CLIP, batch=2, decoder="software", workers=2) as stream:
        assert [batch.video.tolist() for batch in stream.epoch()] == [[0, 1], [2], [4, 5]]
        assert [batch.video.tolist() for batch in stream.epoch()] == [[0, 1], [2], [4, 5]]
    assert [broken.reason for broken in stream.skipped] == [f"{reason} the decoder"]


@pytest.mark.slow  # starts decoders
def test_a_worker_that_was_killed_with_a_lock_does_not_hang_the_run(index: Index) -> None:
    """A semaphore has no owner: taken here, it is as a worker leaves it that is killed while it writes a result."""
    stream = pipelines.open(index, clip=CLIP, batch=2, decoder="software", workers=2)
    next(iter(stream.epoch()))
    pool = stream._pipeline._py_pool.pool
    for queue in (pool._result_queue, pool._general_task_queue):
        assert queue.lock.acquire(timeout=5)
    del pool, queue

    def end() -> None:
        stream._kill()
        gc.collect()  # the pipeline's finalizer joins a thread that closes the queues

    _watchdog.call_with_timeout(60.0, end)
    stream.close()


def test_what_workers_know_is_shared_not_copied(index: Index) -> None:
    """A pickled address, a few hundred bytes, whatever the index holds; the other side reads the same columns."""
    times = np.arange(100_000) * 512
    index = indexing.from_videos(
        [dataclasses.replace(v, pts=times + n, frames=len(times)) for n, v in enumerate(index.videos())],
        index.classes, index.root,
    )  # fmt: skip
    files = Files(index)
    carried = pickle.dumps(files)
    assert len(carried) < 2000
    there = pickle.loads(carried)
    for row, video in enumerate(index.videos()):
        assert np.array_equal(there.times(row)[0], video.pts)
        assert np.array_equal(there.times(row)[1], video.key_frames)
        assert (there.path(row), there.size(row), there.frames(row)) == (video.path, (64, 64), video.frames)
        assert there.labels(row).tolist() == [video.label]
        assert not there.times(row)[0].flags.writeable


# --- Mutants


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip bytes, blank, cut out, double or shuffle a part, or end the file early."""
    data = bytearray(content)
    start = int(rng.integers(0, len(data)))
    end = min(len(data), start + int(rng.integers(1, 200)))
    kind = int(rng.integers(6))
    if kind == 0:
        for place in rng.integers(0, len(data), int(rng.integers(1, 20))):
            data[place] ^= int(rng.integers(1, 256))
    elif kind == 1:
        data[start:end] = bytes(end - start)
    elif kind == 2:
        del data[start:end]
    elif kind == 3:
        data[start:start] = data[start:end]
    elif kind == 4:
        data[start:end] = rng.bytes(end - start)
    else:
        del data[max(start, 100) :]
    return bytes(data)


def mutants(root: Path, codecs: list[str], each: int, block: int = 8) -> Index:
    """An index, made after the damage, of one whole video and `each` mutants of every codec, 8 blocks wide and high."""
    entries: list[tuple[str, int]] = []
    for codec in codecs:
        suffix = CODECS[codec].suffix
        film(root / f"{codec}{suffix}", codec, block=block)
        entries.append((f"{codec}{suffix}", 0))
        content, rng = (root / f"{codec}{suffix}").read_bytes(), np.random.default_rng(len(codec))
        for number in range(each):
            (root / f"{codec}{number}{suffix}").write_bytes(mutate(content, rng))
            entries.append((f"{codec}{number}{suffix}", 0))
    return indexing.build(entries, ("a",), root, workers=2, progress=False)


def survives(index: Index, codecs: list[str], decoder: str, device: str) -> None:
    """Every mutant is shown or named, and the whole videos are shown."""
    with pipelines.open(index, clip=CLIP, batch=64, decoder=decoder, workers=2, device=device) as stream:  # type: ignore[arg-type]
        seen = [row for batch in stream.epoch() for row in batch.video.tolist()]
    assert len(seen) == len(set(seen))
    assert len(seen) + len(stream.skipped) == len(index)
    assert {index[row].path.stem for row in seen} >= set(codecs)
    assert len(stream.skipped) > 0


@pytest.mark.slow  # decodes hundreds of files
@pytest.mark.parametrize(("decoder", "codecs"), [("software", list(CODECS)), ("dali", ["vp9", "vp8"])])
def test_hundreds_of_mutants_end_nothing(tmp_path: Path, decoder: str, codecs: list[str]) -> None:
    index = mutants(tmp_path, codecs, 40)
    assert len(index) + len(index.skipped) == len(codecs) * 41
    survives(index, codecs, decoder, "cpu")


@pytest.mark.slow  # starts decoders
@pytest.mark.parametrize("decoder", ["software", "dali"])
def test_what_is_damaged_after_the_indexing_is_never_shown(tmp_path: Path, decoder: str) -> None:
    """Half of the files of every codec: each one is named, even those that would decode to wrong pixels in silence."""
    videos, damaged = [], set()
    for codec in CODECS if decoder == "software" else ("vp9", "vp8"):
        path = tmp_path / f"{codec}{CODECS[codec].suffix}"
        film(path, codec)
        content, whole = path.read_bytes(), indexing.scan(path, 0)
        for number in range(30):
            copy, rng = path.with_stem(f"{codec}{number}"), np.random.default_rng(number)
            damage = mutate(content, rng) if number % 2 else content
            copy.write_bytes(damage)
            videos.append(dataclasses.replace(whole, path=copy))
            damaged |= {str(copy)} if damage != content else set()
    index = indexing.from_videos(videos, ("a",), tmp_path)
    with pipelines.open(index, clip=CLIP, batch=32, decoder=decoder, workers=2) as stream:  # type: ignore[arg-type]
        seen = {str(index[row].path) for batch in stream.epoch() for row in batch.video.tolist()}
    assert {broken.path for broken in stream.skipped} == damaged
    assert seen == {str(video.path) for video in videos} - damaged
    assert len(damaged) > len(videos) * 0.4


@pytest.mark.gpu
def test_hundreds_of_mutants_end_nothing_on_a_gpu(tmp_path: Path) -> None:
    codecs = ["h264", "hevc", "vp9", "mpeg4"]
    survives(mutants(tmp_path, codecs, 60, block=20), codecs, "dali", "cuda")  # 160 pixels: NVDEC takes 144 or more
