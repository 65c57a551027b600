"""Frame n is the n-th picture that a decoder shows from the start, whatever the times and flags of a file say."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from reelbench import pipelines
from reelbench.pipelines import _packets, _shown, reference, software
from reelbench.pipelines._encode import encode
from reelbench.pipelines.check import check
from reelbench.pipelines.index import Entry, Span, Video, build, scan
from reelbench.pipelines.transcode import transcode
from reelbench.spec import Clip

COUNT, GROUP, LEVEL = 36, 12, 6  # frame n has the mean gray level 6 n + 6
# Open groups, in decoding order: 0 3 1 2 6 4 5 9 7 8 | 12 10 11 15 13 14 … of which 10 and 11 need 9, too.
OPEN = f"keyint={GROUP}:min-keyint={GROUP}:open-gop=1:scenecut=0:bframes=2:b-adapt=0:repeat-headers=1"
SECOND = GROUP - 2  # number of the second key frame's packet
FIXED = {"bf": "2", "g": str(GROUP), "sc_threshold": "1000000000", "qmin": "1", "qmax": "2"}
SOURCES = {
    "h264": ("libx264", {"x264-params": f"{OPEN}:b-pyramid=none"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": f"{OPEN}:log-level=none:pools=none:frame-threads=1"}),
    "mpeg4": ("mpeg4", FIXED),
    "mpeg2": ("mpeg2video", FIXED),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": str(GROUP), "lag-in-frames": "0"}),
}
Change = Callable[[int, av.Packet], bool]  # given a packet's number; whether it is kept


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    noise = np.random.default_rng(0).integers(0, 9, (48, 64, 1)).repeat(3, 2) - 4 + LEVEL
    for name, (encoder, options) in SOURCES.items():
        with av.open(str(folder / f"{name}.mkv"), "w") as container:
            stream = container.add_stream(encoder, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt, stream.thread_count = 64, 48, "yuv420p", 1
            for number in range(COUNT):
                pixels = (np.roll(noise, number, 0) + LEVEL * number).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
    return {name: folder / f"{name}.mkv" for name in SOURCES}


def _copied(source: Path, target: Path, change: Change, unit: Fraction | None = None) -> Path:
    """Copy the packets of a file, without encoding them again."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        if unit:
            stream.time_base = unit
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size and change(number, packet):
                packet.stream = stream
                new.mux(packet)
    return target


def _plain(number: int, packet: av.Packet) -> bool:
    return True


def _decoding_times(number: int, packet: av.Packet) -> bool:
    packet.pts = packet.dts = 40 * number
    return True


def _decoding_times_later(number: int, packet: av.Packet) -> bool:
    return number < SECOND or _decoding_times(number, packet)


def _shared_times(number: int, packet: av.Packet) -> bool:
    packet.pts = packet.dts = 40 * (number - (number % 9 == 1))
    return True


def _rounded_times(number: int, packet: av.Packet) -> bool:
    packet.pts = packet.dts = number * 2 // 3
    return True


def _cut(number: int, packet: av.Packet) -> bool:
    return number >= SECOND


ODD: dict[str, tuple[str, str, Change, range]] = {
    "decoding times": ("h264", "mp4", _decoding_times, range(COUNT)),
    "decoding times in later groups": ("h264", "mkv", _decoding_times_later, range(COUNT)),
    "decoding times of MPEG-4": ("mpeg4", "mp4", _decoding_times, range(COUNT)),
    "decoding times of HEVC": ("hevc", "mkv", _decoding_times, range(COUNT)),
    "shared times": ("vp9", "mkv", _shared_times, range(COUNT)),
    "1500 pictures a second": ("vp9", "webm", _rounded_times, range(COUNT)),
    "H.264 cut": ("h264", "ts", _cut, range(GROUP, COUNT)),
    "HEVC cut": ("hevc", "ts", _cut, range(GROUP, COUNT)),
    "MPEG-4 cut": ("mpeg4", "avi", _cut, range(GROUP, COUNT)),
    "MPEG-2 cut": ("mpeg2", "mpg", _cut, range(GROUP, COUNT)),
    "no times but some": ("mpeg2", "mpg", _plain, range(COUNT)),
}


@pytest.fixture(scope="module")
def odd(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Video, list[int]]]:
    """Files whose packets do not tell their frames, and the numbers that these show."""
    folder = tmp_path_factory.mktemp("odd")
    part = _copied(sources["h264"], folder / "part.ts", _plain)
    (folder / "joined.ts").write_bytes(2 * part.read_bytes())
    found = {"joined": (scan(folder / "joined.ts"), [*range(COUNT)] * 2)}
    for name, (source, suffix, change, shown) in ODD.items():
        path = _copied(sources[source], folder / f"{name}.{suffix}", change)
        found[name] = scan(path), list(shown)
    return found


def _numbers(pictures: np.ndarray) -> list[int]:
    return np.rint(pictures.mean((1, 2, 3)) / LEVEL - 1).astype(int).tolist()


def _alone(video: Video, wanted: list[int]) -> list[int]:
    content, region = np.fromfile(video.path, np.uint8), (0, 0, video.width, video.height)
    where = video.pts, video.key_frames, region
    return _numbers(software.decode(content, video.stream, np.array(wanted), *where, packets=video.packets))


@pytest.mark.parametrize("name", ["joined", *ODD])
def test_frames_are_what_a_decoder_shows_from_the_start(odd: dict[str, tuple[Video, list[int]]], name: str) -> None:
    """All of them, each alone, and any choice: the same pictures, at ascending times of 25 a second (but one: 1500)."""
    video, shown = odd[name]
    assert _numbers(reference.decode(video.path)) == shown
    assert len(video.packets) == video.frames == len(shown)
    assert (np.diff(video.pts) > 0).all()
    assert video.duration == pytest.approx(len(shown) / (1500 if "1500" in name else 25), rel=0.05)
    for wanted in (list(range(len(shown))), [1, len(shown) - 2], *([number] for number in range(0, len(shown), 5))):
        assert _alone(video, wanted) == [shown[number] for number in wanted]


@pytest.mark.slow  # indexed, shown, checked and copied
def test_such_frames_go_through_the_pipeline_the_check_and_the_copy(
    odd: dict[str, tuple[Video, list[int]]], tmp_path: Path
) -> None:
    entries = [
        Entry(video.path, 0, Span(start=number, end=number + 1, unit="frames"))
        for video, _ in odd.values() for number in (0, 13, video.frames - 1)
    ]  # fmt: skip
    clip = Clip(frames=1, sampling="segments", size=32, short_side=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    with pipelines.open(
        build(entries, ("a",), tmp_path, workers=0), clip=clip, batch=len(entries), workers=1
    ) as stream:
        assert stream.decoder == "software"
        (batch,) = stream.epoch()
    pictures = batch.clip.permute(0, 2, 3, 4, 1).reshape(len(entries), 32, 32, 3).numpy()
    assert _numbers(pictures) == [shown[number] for _, shown in odd.values() for number in (0, 13, -1)]
    build([(video.path, 0) for video, _ in odd.values()], ("a",), tmp_path, workers=0).save(tmp_path / "i.parquet")
    assert not [problem for problem in check(tmp_path / "i.parquet", deep=True, workers=0) if problem.quarantined]
    made = transcode(tmp_path / "i.parquet", tmp_path / "out", short_side=64, gop=4, workers=0, progress=False)
    for copy, (video, shown) in zip(made.videos(), odd.values(), strict=True):
        assert _numbers(reference.decode(copy.path)) == shown
        assert copy.duration == pytest.approx(video.duration, rel=0.1)


def test_a_list_trims_by_repaired_times(sources: dict[str, Path], tmp_path: Path) -> None:
    path = _copied(sources["vp9"], tmp_path / "odd.mkv", _shared_times)
    (video,) = build([Entry(path, 0, Span(start=0.4, end=0.8))], ("a",), tmp_path, workers=0).videos()
    assert (video.offset, video.frames) == (10, 10)


@pytest.mark.parametrize("codec", SOURCES)
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi", "ts"])
def test_plain_files_are_not_decoded(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, suffix: str
) -> None:
    if (codec, suffix) in (("h264", "avi"), ("hevc", "avi"), ("vp9", "ts"), ("mpeg4", "ts")):
        pytest.skip("holds no times, not this codec, or not its headers")
    path = _copied(sources[codec], tmp_path / f"plain.{suffix}", _plain)
    monkeypatch.setattr(_shown, "learn", None)
    video = scan(path)
    assert (video.frames, len(video.packets)) == (COUNT, 0)
    assert _alone(video, [0, 11, 12, COUNT - 1]) == [0, 11, 12, COUNT - 1]


def test_h264_that_announces_reordering_and_has_none_is_plain(tmp_path: Path) -> None:
    """As of noise: the encoder may reorder, but finds no picture that would gain by it."""
    pictures = np.random.default_rng(0).integers(0, 256, (10, 8, 12, 3), dtype=np.uint8).repeat(32, 1).repeat(32, 2)
    encode(tmp_path / "noise.mp4", pictures, codec="h264", fps=25, gop=5)
    with av.open(str(tmp_path / "noise.mp4")) as file:
        context = file.streams.video[0].codec_context
        assert context.has_b_frames
        assert PictureType.B not in [frame.pict_type for frame in file.decode(video=0)]
    assert len(scan(tmp_path / "noise.mp4").packets) == 0


def test_a_file_without_marked_key_frames_shows_its_frames(sources: dict[str, Path], tmp_path: Path) -> None:
    """Matroska's blocks carry the flag in their first bit after track and time; FFmpeg cannot seek in such a file."""
    data = bytearray(sources["h264"].read_bytes())
    at = 0
    while (at := data.find(b"\x81", at + 1)) > 0:
        if data[at + 3] == 0x80 and 0xA3 in data[at - 5 : at]:
            data[at + 3] = 0
    (tmp_path / "odd.mkv").write_bytes(data)
    video = scan(tmp_path / "odd.mkv")
    assert _alone(video, [20]) == [20]


def test_the_deep_check_passes_a_cut_that_begins_with_what_it_does_not_show(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    """An edit list leaves out the first pictures, of which two lack their reference."""

    def cut(number: int, packet: av.Packet) -> bool:
        assert packet.pts is not None
        packet.pts -= 40 * (GROUP + 4)
        packet.dts = 40 * (number - SECOND - 7)
        return number >= SECOND

    path = _copied(sources["h264"], tmp_path / "cut.mp4", cut)
    build([(path, 0)], ("a",), tmp_path, workers=0).save(tmp_path / "i.parquet")
    assert check(tmp_path / "i.parquet", deep=True, workers=0) == ()
    assert _alone(scan(path), [0, 5]) == [GROUP + 4, GROUP + 9]


def test_files_that_were_decoded_to_be_indexed_are_counted(sources: dict[str, Path], tmp_path: Path, reelbench) -> None:
    (tmp_path / "a").mkdir()
    _copied(sources["h264"], tmp_path / "a" / "odd.mp4", _decoding_times)
    _copied(sources["h264"], tmp_path / "a" / "plain.mp4", _plain)
    code, out, _ = reelbench("data", "index", "folder", tmp_path)
    assert code == 0
    assert "1 of the videos were decoded whole to be indexed" in out


def test_a_seek_in_a_transport_stream_finds_the_key_frame(sources: dict[str, Path], tmp_path: Path) -> None:
    """Its excerpt is a part, and the software decoder need not begin at the start."""
    video = scan(_copied(sources["h264"], tmp_path / "plain.ts", _plain))
    wanted = np.array([2 * GROUP + 3], np.int32)
    data, numbers = _packets.excerpt(video.path, video.stream, wanted, video.pts, video.key_frames)
    (tmp_path / "excerpt.mkv").write_bytes(data.tobytes())
    assert _numbers(reference.decode(tmp_path / "excerpt.mkv")[numbers]) == wanted.tolist()
    assert data.size < video.size / 4
    with av.open(str(video.path)) as container:
        first = next(_packets.from_key(container, container.streams.video[0], 2 * GROUP, video.pts))
    assert first.is_keyframe
    assert first.pts == video.pts[2 * GROUP]


def test_another_recording_that_was_joined_at_an_open_key_frame_is_seen(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    """Its times go on evenly, but its order counts do not: a decoder leaves out the pictures that seem to be past."""

    def repeated(number: int, packet: av.Packet) -> bool:
        return number < SECOND + GROUP

    part = _copied(sources["hevc"], tmp_path / "part.mkv", repeated)
    assert not len(scan(part).packets)
    with av.open(str(tmp_path / "odd.mkv"), "w") as new:
        for times in range(2):
            with av.open(str(part)) as old:
                stream = new.add_stream_from_template(old.streams.video[0]) if not times else new.streams.video[0]
                for number, packet in enumerate(old.demux(video=0)):
                    if packet.size and (not times or number >= SECOND) and packet.dts is not None:
                        shift = 40 * GROUP * times
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        new.mux(packet)
    video = scan(tmp_path / "odd.mkv")
    assert len(video.packets)
    assert video.frames == len(reference.decode(video.path))
