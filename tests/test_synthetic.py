"""The embedded set is real video, repeatable, and its labels are in the order of the frames and nowhere else."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.pipelines import _encode, _sprites, splits, synthetic
from reelbench.pipelines.index import Index
from reelbench.spec import Clip
from torch import Tensor, nn

SHORT = synthetic.Film(frames=8)
TINY = {"videos": (8, 0, 8), "film": SHORT, "workers": 0, "progress": False}


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.webm"))}


@pytest.mark.parametrize("codec", sorted(_encode.CODECS))
def test_every_codec_makes_readable_files(tmp_path: Path, codec: str) -> None:
    paths = synthetic.make(tmp_path, **{**TINY, "film": replace(SHORT, codec=codec)})
    index = Index.load(paths["train"])
    assert [(video.codec, video.frames, video.width) for video in index.videos()] == [(codec, 8, 64)] * 8
    assert index.skipped == ()
    assert sorted(video.label for video in index.videos()) == list(range(8))


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthetic.make(tmp_path / name, **{**TINY, "film": replace(SHORT, seed=seed)})
    a, b, c = (_files(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert not set(a.values()) & set(c.values())


@pytest.mark.slow  # makes a set twice
def test_workers_do_not_change_the_files(tmp_path: Path) -> None:
    synthetic.make(tmp_path / "one", **TINY)
    synthetic.make(tmp_path / "two", **{**TINY, "workers": 2})
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


def test_no_video_is_in_two_splits(tiny_synthetic: dict[str, Path]) -> None:
    hashes = [video.hash for path in tiny_synthetic.values() for video in Index.load(path).videos()]
    assert len(hashes) == len(set(hashes)) == 40


@pytest.mark.parametrize(
    "change", [{"size": (95, 96)}, {"size": (32, 32)}, {"codec": "vp99"}, {"frames": 0}, {"videos": (1, -1, 1)}]
)
def test_a_mistake_is_one_line(tmp_path: Path, change: dict) -> None:
    videos = change.pop("videos", TINY["videos"])

    def made() -> None:
        synthetic.make(tmp_path, **{**TINY, "videos": videos, "film": replace(SHORT, **change)})

    with pytest.raises(UserError):
        made()


@pytest.fixture
def small_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "VIDEOS", (8, 8, 8))
    monkeypatch.setattr(synthetic, "EASY", SHORT)


@pytest.mark.usefixtures("small_defaults")
def test_ensure_makes_the_set_once_even_in_a_race(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from reelbench.pipelines import synthetic
synthetic.VIDEOS, synthetic.EASY = {synthetic.VIDEOS}, synthetic.{SHORT}
synthetic.ensure(Path({str(tmp_path)!r}), workers=0, progress=False)
"""
    racers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [racer.wait() for racer in racers] == [0, 0]
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    written = {path: path.stat().st_mtime_ns for path in folders[0].rglob("*.webm")}
    indexes = synthetic.ensure(tmp_path, workers=0, progress=False)
    assert len(folders) == 1
    assert {path: path.stat().st_mtime_ns for path in folders[0].rglob("*.webm")} == written
    for path in indexes.values():
        assert not Index.load(path).changed(contents=True)


@pytest.mark.usefixtures("small_defaults")
def test_ensure_begins_again_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = synthetic._write, []

    def stop_at_ten(video: synthetic._Video) -> None:
        calls.append(video)
        if len(calls) == 10:
            raise KeyboardInterrupt
        write(video)

    monkeypatch.setattr(synthetic, "_write", stop_at_ten)
    with pytest.raises(KeyboardInterrupt):
        synthetic.ensure(tmp_path, workers=0, progress=False)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    indexes = synthetic.ensure(tmp_path, workers=0, progress=False)
    assert [len(Index.load(path)) for path in indexes.values()] == [8, 8, 8]


@pytest.mark.slow  # makes two sets of videos
@pytest.mark.usefixtures("small_defaults")
@pytest.mark.parametrize(
    "name", [splits.BUILT_IN[0], *(pytest.param(n, marks=pytest.mark.exhaustive) for n in splits.BUILT_IN[1:])]
)
def test_a_gpu_is_given_the_same_clips_in_files_that_nvdec_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The clips of both sets differ by what their codecs lose, a fraction of what another video would make."""
    monkeypatch.setenv("REELBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(synthetic, "HARD_VIDEOS", (8, 8, 8))
    monkeypatch.setattr(synthetic, "HARD", replace(synthetic.HARD, frames=8))
    indexes = [Index.load(splits.resolve(name, device).test) for device in ("cpu", "cuda")]
    assert [(v.codec, v.width, v.height) for v in (index[0] for index in indexes)] == [
        ("vp9", 64, 64),
        ("h264", 128, 128),
    ]
    assert list(indexes[0].table["label"]) == list(indexes[1].table["label"])
    clip = Clip(frames=8, size=32, short_side=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    shown = []
    for index in indexes:
        with pipelines.open(index, clip=clip, batch=8, decoder="software") as stream:
            shown += [batch.clip for batch in stream.epoch()]
    assert (shown[0] - shown[1]).abs().mean() < 5
    assert (shown[0] - shown[1].roll(1, 0)).abs().mean() > 30


PAIRS = [("left", "right"), ("up", "down"), ("clockwise", "counter_clockwise"), ("recede", "approach")]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_opposite_class_moves_the_other_way_through_the_same_places(pair: tuple[str, str]) -> None:
    one, other = (_sprites.coordinates(motion, np.random.default_rng(5), 16) for motion in pair)
    axis = _sprites.MOTIONS[pair[0]][0]
    assert np.allclose(one[axis], other[axis, ::-1])
    assert np.allclose(np.delete(one, axis, 0), np.delete(other, axis, 0))
    assert synthetic.CLASSES.index(pair[0]) ^ 1 == synthetic.CLASSES.index(pair[1])


@pytest.mark.parametrize("motion", synthetic.CLASSES)
@pytest.mark.parametrize("frames", [8, 15, 16])
def test_two_coordinates_take_evenly_spaced_values_and_two_rest(motion: str, frames: int) -> None:
    """So a heap of frames shows two coordinates that move alike, and not which of them is the class's."""
    partners = set()
    for seed in range(20):
        place = np.unwrap(_sprites.coordinates(motion, np.random.default_rng(seed), frames), period=1)
        moving = [k for k in range(4) if np.ptp(place[k]) > 0]
        assert len(moving) == 2
        assert _sprites.MOTIONS[motion][0] in moving
        partners |= set(moving)
        for values in np.sort(place[moving]):
            assert np.allclose(np.diff(values), np.diff(values)[0], atol=1e-5)
    assert partners == {0, 1, 2, 3}


def test_no_moment_tells_anything() -> None:
    """At any one time each coordinate is uniform on its loop, in every class (Kolmogorov-Smirnov at 1e-4)."""
    for motion in synthetic.CLASSES:
        states = np.stack([_sprites.coordinates(motion, np.random.default_rng([7, i]), 16) for i in range(1000)])
        for moment in (0, 7, 15):
            for values in np.sort(states[:, :, moment], axis=0).T:
                gap = np.abs(values - np.linspace(0, 1, len(values))).max()
                assert gap < 2.2 / math.sqrt(len(values)), motion


def test_the_harder_classes_are_pairs_that_a_flip_pairs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "HARD_VIDEOS", (16, 0, 2))
    monkeypatch.setattr(synthetic, "HARD", replace(synthetic.HARD, frames=8))
    paths = synthetic.ensure(tmp_path, hard=True, workers=0, progress=False)
    index = Index.load(paths["train"])
    assert sorted(video.label for video in index.videos()) == list(range(16))
    assert paths["train"].parent.name.startswith("synthetic-hard-")
    names = index.classes
    assert (names.index("left_then_up"), names.index("right_then_up")) in (index.mirror or ())
    assert all(index[row].path.parent.name == names[index[row].label] for row in range(16))


def test_half_of_the_harder_training_videos_have_no_distractor() -> None:
    def blue(split: str, number: int) -> bool:
        """Whether any pixel is of the distractor's front, which nothing else comes near."""
        video = synthetic._Video(out=Path(), split=split, number=number, film=synthetic.HARD)
        draw = np.random.default_rng([0, number])
        shown = _sprites.draw_pair(video.motion, draw, frames=8, size=(64, 64), distractor=video.distractor)
        return bool((shown.astype(int) @ [-1, -1, 1] > 60).any())

    assert [blue("train", number) for number in (0, 15, 16, 31, 32)] == [False, False, True, True, False]
    assert all(blue(split, number) for split in ("val", "test") for number in (0, 16))


@pytest.mark.parametrize("pair", ["left_then_up", "clockwise_then_recede", "recede_then_left"])
def test_a_pair_is_one_motion_and_then_another(pair: str) -> None:
    first, second = (_sprites.MOTIONS[motion] for motion in _sprites.PAIRS[pair])
    for seed in range(20):
        place = np.unwrap(_sprites.pair_coordinates(pair, np.random.default_rng(seed), 32), period=1)
        for (axis, direction), part in zip((first, second), (place[:, :16], place[:, 16:]), strict=True):
            assert np.allclose(np.diff(part[axis]), np.diff(part[axis])[0], atol=1e-5)
            assert np.sign(np.diff(part[axis])[0]) == direction


@pytest.mark.parametrize("name", ["left_then_up", "clockwise_then_recede"])
def test_pairs_along_the_same_coordinates_visit_the_same_places(name: str) -> None:
    """Without their order, frames tell no more of a pair than its coordinates: 1 in 4."""

    def axes(pair: str) -> list[int]:
        return [_sprites.MOTIONS[motion][0] for motion in _sprites.PAIRS[pair]]

    alike = [pair for pair in _sprites.PAIRS if axes(pair) == axes(name)]
    drawn = [_sprites.pair_coordinates(pair, np.random.default_rng(3), 32) for pair in alike]
    heaps = np.array([sorted(map(tuple, places.T.round(5))) for places in drawn])
    assert len(alike) == 4
    assert np.ptp(heaps, axis=0).max() < 1e-4


def test_no_moment_tells_which_pair_it_is() -> None:
    for pair in ("left_then_up", "clockwise_then_recede"):
        drawn = [_sprites.pair_coordinates(pair, np.random.default_rng([7, i]), 32) for i in range(1000)]
        for values in np.sort(np.stack(drawn)[:, :, (0, 15, 31)].reshape(1000, -1), axis=0).T:
            gap = np.abs(values - np.linspace(0, 1, len(values))).max()
            assert gap < 2.2 / math.sqrt(len(values)), pair


def test_the_sprite_that_counts_is_the_red_one_in_front() -> None:
    """Where it is not, other sprites are: the same video with another pair differs near the red sprite alone."""
    one, other = (
        _sprites.draw_pair(pair, np.random.default_rng(3), frames=32, size=(64, 64)).astype(int)
        for pair in ("left_then_up", "right_then_up")
    )
    red = np.maximum(*(video[..., 0] - video[..., 1:].max(-1) for video in (one, other)))
    assert (red > 60).any()
    blue = (one[..., 2] - one[..., :2].max(-1) > 100) & (other[..., 2] - other[..., :2].max(-1) > 100)
    assert (one == other).all(-1)[blue].mean() > 0.95


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Train and test clips, uint8 `N 3 8 32 32`, with their labels: every second frame of really encoded videos."""
    paths = synthetic.make(tmp_path_factory.mktemp("control"), videos=(640, 0, 400), progress=False)
    train, test = (Index.load(paths[split]) for split in ("train", "test"))
    return *_clips(train), *_clips(test)


def _clips(index: Index) -> tuple[Tensor, Tensor]:
    labels = torch.tensor([video.label for video in index.videos()])
    return torch.stack([_clip(video.path) for video in index.videos()]), labels


def _clip(path: Path) -> Tensor:
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)][::2])
    small = frames.reshape(8, 32, 2, 32, 2, 3).mean((2, 4))
    return torch.from_numpy(small).permute(3, 0, 1, 2).to(torch.uint8)


def _network(reach: int) -> nn.Module:
    """A small 3D convolutional network that sees `reach` frames at once; with 1 it averages over single frames."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        convolution = nn.Conv3d(before, after, (reach, 3, 3), (1, 2, 2), (reach // 2, 1, 1), bias=False)
        layers += [convolution, nn.BatchNorm3d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(64, 8))


def _accuracy(
    clips: tuple[Tensor, ...], *, reach: int, epochs: int, shuffled: bool = False, backwards: bool = True
) -> float:
    torch.manual_seed(0)
    train, labels, test, truth = clips
    model = _network(reach)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    steps = epochs * math.ceil(len(train) / 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(train)).split(32):
            x, y = train[batch], labels[batch]
            if backwards:
                x, y = _reversed(x, y)
            loss = nn.functional.cross_entropy(model(_input(x, shuffled)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        return float((model(_input(test, shuffled)).argmax(1) == truth).float().mean())


def _input(x: Tensor, shuffled: bool) -> Tensor:
    if shuffled:
        x = torch.stack([clip[:, torch.randperm(clip.shape[1])] for clip in x])
    return (x.float() / 255 - 0.5) / 0.25


def _reversed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Run half of the clips backwards: their class is then the opposite one, which is the neighbour in the list."""
    backwards = torch.rand(len(y)) < 0.5
    return torch.where(backwards.view(-1, 1, 1, 1, 1), x.flip(2), x), torch.where(backwards, y ^ 1, y)


@pytest.mark.slow  # trains four small networks on a thousand videos
@pytest.mark.exhaustive
def test_only_the_order_of_frames_tells_the_class(clips: tuple[Tensor, ...]) -> None:
    """Single frames stay at chance (1 in 8), heaps of them at 1 in 4; four deviations of 400 clips are 8 %."""
    train, labels, test, truth = clips
    first = train[:, :, :1], labels, test[:, :, :1], truth
    assert _accuracy(first, reach=1, backwards=False, epochs=12) < 0.2
    assert _accuracy(clips, reach=1, epochs=6) < 0.33
    assert _accuracy(clips, reach=3, shuffled=True, epochs=8) < 0.33
    assert _accuracy(clips, reach=3, epochs=10) > 0.4
