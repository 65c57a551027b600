"""A check finds what is wrong and bars it; transcoding keeps labels, times and order, and goes on where it stopped."""

from __future__ import annotations

import dataclasses
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from reelbench.errors import UserError
from reelbench.pipelines import transcode as transcoding
from reelbench.pipelines._encode import encode
from reelbench.pipelines._quarantine import quarantine_file
from reelbench.pipelines.check import check
from reelbench.pipelines.index import Entry, Index, Span, build
from reelbench.pipelines.transcode import transcode


@pytest.fixture
def copied(tiny_synthetic: dict[str, Path], tmp_path: Path) -> Path:
    """The validation index of a copy that may be damaged."""
    shutil.copytree(tiny_synthetic["val"].parent, tmp_path / "set")
    return tmp_path / "set" / "val.parquet"


def _damage(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    place = int(len(data) * at)
    data[place : place + 40] = bytes(40)
    path.write_bytes(data)


def _check(index: Path, **options: bool) -> list[tuple[str, str]]:
    return [(problem.path.name, problem.reason) for problem in check(index, workers=0, progress=False, **options)]


def test_a_whole_set_has_no_problems(copied: Path) -> None:
    assert _check(copied) == _check(copied, deep=True) == []
    assert not quarantine_file(copied).exists()


def test_broken_files_are_named_and_left_out_until_they_are_mended(copied: Path) -> None:
    videos = list(Index.load(copied).videos())
    whole = videos[3].path.read_bytes()
    videos[0].path.write_bytes(b"")
    videos[1].path.write_bytes(videos[1].path.read_bytes()[:-300])
    videos[2].path.unlink()
    _damage(videos[3].path, at=0.5)
    reasons = dict(_check(copied))
    assert list(reasons) == [video.path.name for video in videos[:4]]
    for video, words in zip(videos, ("empty", "truncated", "no such file", ""), strict=False):
        assert words in reasons[video.path.name]
    index = Index.load(copied)
    assert [video.path for video in index.videos()] == [video.path for video in videos[4:]]
    assert len(index.skipped) == 4
    videos[3].path.write_bytes(whole)
    assert len(_check(copied)) == 3
    assert len(Index.load(copied)) == 5


def test_a_check_that_is_refused_leaves_what_was_quarantined(copied: Path) -> None:
    next(Index.load(copied).videos()).path.write_bytes(b"")
    assert len(_check(copied)) == 1
    kept = quarantine_file(copied).read_bytes()
    shutil.move(copied.parent / "val", copied.parent / "elsewhere")
    with pytest.raises(UserError, match="none of the 8 files"):
        _check(copied)
    assert quarantine_file(copied).read_bytes() == kept


@pytest.mark.parametrize(("labels", "multi_label"), [([8], False), ([-2], False), ([0, -1], True), ([0, 8], True)])
def test_a_label_that_is_no_class_is_refused_with_its_video(copied: Path, labels: list[int], multi_label: bool) -> None:
    index = Index.load(copied)
    table = index.table.copy()
    table["label"] = pd.Series([labels, *([0] for _ in range(7))], dtype=table["label"].dtype)
    dataclasses.replace(index, table=table, multi_label=multi_label).save(copied)
    with pytest.raises(UserError, match=rf"{index[0].path.name}: label {labels[-1]} is none of the 8 classes"):
        _check(copied)


def test_only_a_deep_check_sees_what_was_broken_before_the_index(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    pixels = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
    encode(path, pixels, codec="h264", fps=15, gop=6)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = b"\xff" * 400
    path.write_bytes(data)
    build([(path, 0)], ("x",), tmp_path, workers=0).save(tmp_path / "i.parquet")
    assert _check(tmp_path / "i.parquet") == []
    assert len(_check(tmp_path / "i.parquet", deep=True)) == 1


def _variable(path: Path, times: list[int]) -> None:
    pictures = []
    for number, time in enumerate(times):
        picture = av.VideoFrame.from_ndarray(np.full((96, 192, 3), 8 * number, np.uint8), format="rgb24")
        picture.pts, picture.time_base = time, Fraction(1, 30)
        pictures.append(picture)
    encode(path, pictures, codec="h264", fps=30, gop=4)


def test_variable_frame_rate_is_reported_and_kept(tmp_path: Path) -> None:
    _variable(tmp_path / "v.mp4", [0, 1, 2, 10, 11])
    build([("v.mp4", 0)], ("x",), tmp_path, workers=0).save(tmp_path / "i.parquet")
    assert _check(tmp_path / "i.parquet") == [("v.mp4", "variable frame rate: steps of 33 to 267 ms")]
    assert len(Index.load(tmp_path / "i.parquet")) == 1


def _seconds(index: Index, number: int) -> list[float]:
    video = index[number]
    pts = video.pts[video.offset : video.offset + video.frames]
    return [float(time * video.time_base) for time in pts - pts[0]]


@pytest.mark.parametrize("codec", transcoding.CODECS)
def test_transcoding_keeps_labels_times_and_pixels(tmp_path: Path, codec: str) -> None:
    (tmp_path / "in").mkdir()
    times = [0, 1, 2, 10, 11, 12, 14, 20]
    _variable(tmp_path / "in" / "v.mp4", times)
    entries = [Entry("v.mp4", 1), Entry("v.mp4", 0, Span(start=2, end=6, unit="frames"))]
    source = build(entries, ("a", "b"), tmp_path / "in", workers=0)
    source.save(tmp_path / "in" / "i.parquet")
    made = transcode(
        tmp_path / "in" / "i.parquet", tmp_path / "out", short_side=64, gop=2, codec=codec, workers=0, progress=False
    )
    assert [(v.label, v.frames, v.width, v.height, v.codec) for v in made.videos()] == [
        (1, 8, 128, 64, codec),
        (0, 4, 128, 64, codec),
    ]
    for number in (0, 1):
        assert _seconds(made, number) == pytest.approx(_seconds(source, number), abs=2e-3)
        assert max(np.diff(made[number].key_frames), default=0) <= 2
    with av.open(str(made[1].path)) as container:
        grey = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert grey == pytest.approx([16, 24, 32, 40], abs=4)


def test_the_long_side_is_cut_to_a_multiple_of_16_around_the_middle(tmp_path: Path) -> None:
    """The short side becomes one by scaling; that of a small video is kept."""
    (tmp_path / "in").mkdir()
    picture = np.zeros((72, 90, 3), np.uint8)
    picture[:, 4:84] = 255  # the middle 80, to an even pixel
    encode(tmp_path / "in" / "cut.mp4", [picture] * 3, codec="h264", fps=25, gop=2)
    encode(tmp_path / "in" / "low.mp4", [picture[:12]] * 3, codec="h264", fps=25, gop=2)
    index = build([("cut.mp4", 0), ("low.mp4", 0)], ("a",), tmp_path / "in", workers=0)
    index.save(tmp_path / "in" / "i.parquet")
    made = transcode(tmp_path / "in" / "i.parquet", tmp_path / "out", short_side=72, workers=0, progress=False)
    assert [(v.width, v.height) for v in made.videos()] == [(80, 72), (80, 12)]
    scaled = transcode(tmp_path / "in" / "i.parquet", tmp_path / "scaled", short_side=64, workers=0, progress=False)
    assert [(v.width, v.height) for v in scaled.videos()] == [(80, 64), (80, 12)]
    with av.open(str(made[0].path)) as container:
        for frame in container.decode(video=0):
            assert frame.to_ndarray(format="rgb24").min() > 200


def test_transcoding_goes_on_and_refuses_another_setting(copied: Path, tmp_path: Path) -> None:
    options = {"short_side": 64, "workers": 0, "progress": False}
    first = transcode(copied, tmp_path / "out", **options)
    times = {video.path: video.path.stat().st_mtime_ns for video in first.videos()}
    first[2].path.unlink()
    again = transcode(copied, tmp_path / "out", **options)
    assert again.fingerprint == first.fingerprint
    changed = [path for path, before in times.items() if path.stat().st_mtime_ns != before]
    assert changed == [first[2].path]
    with pytest.raises(UserError, match="another folder"):
        transcode(copied, tmp_path / "out", **{**options, "short_side": 96})
    with pytest.raises(UserError, match="transcoding codec"):
        transcode(copied, tmp_path / "other", codec="mjpeg", **options)


def test_a_video_that_fails_is_rejected_by_name(copied: Path, tmp_path: Path) -> None:
    Index.load(copied)[0].path.write_bytes(b"gone bad")
    made = transcode(copied, tmp_path / "out", short_side=64, workers=0, progress=False)
    assert len(made) == 7
    assert len(made.skipped) == 1
