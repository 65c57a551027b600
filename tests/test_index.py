"""The index counts what a full decode yields, and refuses what cannot be trusted."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from reelbench.errors import UserError
from reelbench.pipelines import _encode
from reelbench.pipelines.index import Index, UnreadableVideo, build, scan

FRAMES = 20


def _pixels(frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (frames, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=sorted(_encode.CODECS))
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoded") / f"clip{_encode.CODECS[request.param].suffix}"
    _encode.encode(path, _pixels(), codec=request.param, fps=15, gop=8)
    return path


def _decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(container.streams.best("video")))


def _mux(path: Path, *, encoder: str, times: list[int], **options: str) -> None:
    """Encode frames at the given times, in thirtieths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=30, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for time, pixels in zip(times, _pixels(len(times)), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _agrees_with_decoder(path: Path) -> None:
    video, frames = scan(path), _decoded(path)
    assert video.frames == len(frames)
    assert video.key_frames.tolist() == [i for i, frame in enumerate(frames) if frame.key_frame]
    assert video.pts.tolist() == [frame.pts for frame in frames]


def test_scan_agrees_with_a_full_decode(encoded: Path) -> None:
    _agrees_with_decoder(encoded)
    assert scan(encoded).fps == pytest.approx(15, rel=0.02)


def test_scan_agrees_with_a_full_decode_of_real_clips(real_clips: Path) -> None:
    clips = [path for path in sorted(real_clips.iterdir()) if path.suffix in (".mp4", ".avi", ".mkv")]
    assert clips
    for path in clips:
        if path.suffix != ".avi":  # packed B-frames have no timestamps of their own
            _agrees_with_decoder(path)
        assert scan(path).frames == len(_decoded(path)), path.name


def test_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 1, 2, 10, 11, 30]
    _mux(tmp_path / "vfr.mp4", encoder="libx264", times=times, bf="2")
    video = scan(tmp_path / "vfr.mp4")
    assert [float((t - video.pts[0]) * video.time_base) for t in video.pts] == pytest.approx([t / 30 for t in times])
    _agrees_with_decoder(tmp_path / "vfr.mp4")


def test_hidden_vp8_reference_frames_are_not_counted(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.webm", tmp_path / "alt_ref.webm"
    _encode.encode(plain, _pixels(), codec="vp8", fps=15, gop=8)
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            for copy in _with_hidden_twin(packet) if packet.size else ():
                copy.stream = stream
                new.mux(copy)
    video = scan(path)
    assert video.frames == len(_decoded(path)) == FRAMES
    assert video.hidden == FRAMES


def _with_hidden_twin(packet: av.Packet) -> list[av.Packet]:
    data = bytearray(bytes(packet))
    data[0] &= ~(1 << 4)
    twin = av.Packet(bytes(data))
    twin.pts, twin.dts, twin.time_base = packet.pts + 1, packet.dts + 1, packet.time_base
    return [packet, twin]


def test_frames_that_an_edit_list_discards_are_not_counted(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    _mux(whole, encoder="libx264", times=list(range(30)), bf="0", g="30", sc_threshold="0")
    _shift(whole, cut, by=10)
    video, frames = scan(cut), _decoded(cut)
    assert video.frames == len(frames) == 20
    assert video.hidden == 10
    assert video.pts.tolist() == [frame.pts for frame in frames]


def _shift(source: Path, target: Path, *, by: int) -> None:
    """Copy packets with `by` frames before time zero, which the muxer turns into an edit list."""
    with av.open(str(source)) as old, av.open(str(target), "w", options={"use_editlist": "1"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.pts -= packet.duration * by
                packet.dts -= packet.duration * by
                packet.stream = stream
                new.mux(packet)


def test_rotation_is_read_from_the_track(tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(-90)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(96, 64, "yuv420p")))
        container.mux(stream.encode(None))
    video = scan(path)
    assert video.rotation == -_decoded(path)[0].rotation % 360 == 90
    assert (video.width, video.height) == (96, 64)


def test_truncated_files_are_refused(encoded: Path, tmp_path: Path) -> None:
    data = encoded.read_bytes()
    for kept in (0.3, 0.6, 0.9, 0.99):
        path = tmp_path / f"{kept}{encoded.suffix}"
        path.write_bytes(data[: int(len(data) * kept)])
        with pytest.raises(UnreadableVideo, match=r"truncated|cannot be demuxed"):
            scan(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "empty file"),
        ("noise.avi", bytes(range(256)) * 40, "cannot be demuxed"),
        ("", b"", "no such"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    if name:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableVideo, match=reason):
        scan(tmp_path / (name or "missing.mp4"))


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UnreadableVideo, match="no video stream"):
        scan(tmp_path / "sound.wav")


def test_an_index_survives_its_file(tiny_index: Index, tmp_path: Path) -> None:
    tiny_index.save(tmp_path / "again.parquet")
    again = Index.load(tmp_path / "again.parquet")
    assert again.fingerprint == tiny_index.fingerprint
    assert again.classes == tiny_index.classes
    for ours, theirs in zip(tiny_index.videos(), again.videos(), strict=True):
        for field in dataclasses.fields(ours):
            assert np.array_equal(getattr(ours, field.name), getattr(theirs, field.name)), field.name
    assert tiny_index[0].path.is_file()
    assert tiny_index[0].pts.dtype == np.int64
    assert tiny_index[0].key_frames.dtype == np.int32


def test_an_older_index_file_is_read_with_what_is_not_known(tiny_index: Index, tmp_path: Path) -> None:
    tiny_index.save(tmp_path / "new.parquet")
    table = pq.read_table(tmp_path / "new.parquet")
    pq.write_table(table.drop_columns(["coded_width", "coded_height", "group"]), tmp_path / "old.parquet")
    old = Index.load(tmp_path / "old.parquet")
    assert old.fingerprint == tiny_index.fingerprint
    assert (old[0].coded_width, old[0].coded_height) == (0, 0)
    old.save(tmp_path / "again.parquet")
    assert Index.load(tmp_path / "again.parquet")[0].coded_width == 0


def test_the_coded_size_is_indexed(tmp_path: Path) -> None:
    """H.264 fills up to macroblocks of 16 x 16: 100 x 70 is coded as 112 x 80."""
    _encode.encode(tmp_path / "v.mp4", np.zeros((2, 70, 100, 3), np.uint8), codec="h264", fps=25, gop=2)
    video = scan(tmp_path / "v.mp4")
    assert (video.width, video.height) == (100, 70)
    assert (video.coded_width, video.coded_height) == (112, 80)


def test_a_folder_may_move_with_its_index(tiny_synthetic: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_synthetic["val"].parent, tmp_path / "moved")
    index = Index.load(tmp_path / "moved" / "val.parquet")
    assert not index.changed(contents=True)
    assert index[0].path.is_relative_to(tmp_path)


def test_only_an_index_that_lost_half_of_its_files_is_refused(tiny_synthetic: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_synthetic["val"].parent, tmp_path / "set")
    index = Index.load(tmp_path / "set" / "val.parquet")
    data = bytearray(index[3].path.read_bytes())
    data[-20] ^= 255
    index[3].path.write_bytes(data)
    assert index.changed() == ()
    assert index.changed(contents=True) == (index[3].path,)
    for row in (1, 4, 6):
        index[row].path.unlink()
    index.verify()
    assert index.changed() == tuple(index[row].path for row in (1, 4, 6))
    index[7].path.write_bytes(b"another")
    with pytest.raises(UserError, match=rf"{index[1].path.name}: moved or changed .*4 of 8"):
        index.verify()


def test_fingerprint_follows_contents_labels_and_order(tiny_index: Index) -> None:
    entries = [(video.path, video.label) for video in tiny_index.videos()]
    same, turned, renamed = (
        build(e, tiny_index.classes, tiny_index.root, workers=0)
        for e in (entries, entries[::-1], [(path, 0) for path, _ in entries])
    )
    assert same.fingerprint == tiny_index.fingerprint
    assert len({tiny_index.fingerprint, turned.fingerprint, renamed.fingerprint}) == 3


def test_build_counts_bad_files_and_keeps_the_order(tiny_index: Index, tmp_path: Path) -> None:
    good = tiny_index[0].path
    (tmp_path / "cut.webm").write_bytes(good.read_bytes()[:-500])
    shutil.copy(good, tmp_path / "b.webm")
    shutil.copy(good, tmp_path / "a.webm")
    entries = [("b.webm", 1), ("cut.webm", 0), ("gone.webm", 0), ("a.webm", 0)]
    index = build(entries, ("x", "y"), tmp_path, workers=0)
    assert [(video.path.name, video.label) for video in index.videos()] == [("b.webm", 1), ("a.webm", 0)]
    assert [path for path, _ in index.skipped] == ["cut.webm", "gone.webm"]
    index.save(tmp_path / "i.parquet")
    assert Index.load(tmp_path / "i.parquet").skipped == index.skipped


def test_parallel_build_equals_the_serial_one(tiny_index: Index) -> None:
    entries = [(video.path, video.label) for video in tiny_index.videos()] * 6
    serial = build(entries, tiny_index.classes, tiny_index.root, workers=0)
    parallel = build(entries, tiny_index.classes, tiny_index.root, workers=2)
    assert parallel.fingerprint == serial.fingerprint
    assert len(parallel) == len(entries)


def test_many_labels_a_video(tiny_index: Index, tmp_path: Path) -> None:
    path = tiny_index[0].path
    index = build([(path, (0, 2)), (path, ())], "abc", tmp_path, multi_label=True, workers=0)
    index.save(tmp_path / "multi.parquet")
    assert [video.label for video in Index.load(tmp_path / "multi.parquet").videos()] == [(0, 2), ()]


def test_no_partial_index_is_ever_seen(tiny_index: Index, tmp_path: Path) -> None:
    tiny_index.save(tmp_path / "i.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["i.parquet"]


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_a_foreign_index_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content:
        (tmp_path / "i.parquet").write_bytes(content)
    with pytest.raises(UserError, match="reelbench data index"):
        Index.load(tmp_path / "i.parquet")


def test_index_needs_no_torch() -> None:
    code = "import sys, reelbench.pipelines.index; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
