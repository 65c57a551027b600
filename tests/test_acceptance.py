"""A file is a video if a decoder shows a picture of it, and truncated if pictures that it promises are missing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import encode
from reelbench.pipelines.index import UnreadableVideo, scan

FRAMES = 12


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The contents of a small video in several containers, by suffix."""
    folder = tmp_path_factory.mktemp("originals")
    coarse = np.random.default_rng(0).integers(0, 256, (FRAMES, 8, 8, 3), dtype=np.uint8)
    pictures = coarse.repeat(8, axis=1).repeat(8, axis=2)
    for suffix, codec in (("mp4", "h264"), ("avi", "mpeg4"), ("mkv", "h264")):
        encode(folder / f"a.{suffix}", pictures, codec=codec, fps=25, gop=6)
    return {path.suffix[1:]: path.read_bytes() for path in folder.iterdir()}


def with_trailer(content: bytes) -> bytes:
    return content + b"ID3\x04\0\0" + bytes(range(256)) * 4  # read as a box, it would have a length of 1.2 GB


def with_large_riff(content: bytes) -> bytes:
    (size,) = struct.unpack("<I", content[4:8])
    return content[:4] + struct.pack("<I", size + 8) + content[8:]


def with_small_riff(content: bytes) -> bytes:
    (size,) = struct.unpack("<I", content[4:8])
    return content[:4] + struct.pack("<I", size - 8) + content[8:]


def with_long_mdat(content: bytes) -> bytes:
    """The last box of this file, that of the samples, promises more than there is, but the samples are all there."""
    free = content.index(b"moov") - 4
    assert content.index(b"mdat") < free
    (size,) = struct.unpack(">I", content[free : free + 4])
    moov, mdat = content[free : free + size], content.index(b"mdat") - 4
    rest = content[mdat:free]
    longer = struct.pack(">I", len(rest) + 64) + rest[4:]
    table = moov.index(b"stco") + 12
    (first,) = struct.unpack(">I", moov[table : table + 4])
    moved = moov[:table] + struct.pack(">I", first + len(moov)) + moov[table + 4 :]
    return content[:mdat] + moved + longer


def without_idx1(content: bytes) -> bytes:
    return content[: content.rindex(b"idx1") + 6]


def without_cues(content: bytes) -> bytes:
    return content[: content.rindex(b"\x1c\x53\xbb\x6b") + 6]


@pytest.mark.parametrize(
    ("suffix", "change"),
    [
        ("mp4", with_trailer), ("mp4", with_long_mdat), ("avi", with_large_riff), ("avi", with_small_riff),
        ("avi", without_idx1), ("mkv", without_cues), ("mkv", with_trailer),
    ],
)  # fmt: skip
def test_sizes_in_headers_may_be_wrong_if_all_pictures_are_there(
    originals: dict[str, bytes], tmp_path: Path, suffix: str, change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(change(originals[suffix]))
    assert scan(path).frames == FRAMES


@pytest.mark.parametrize(
    ("suffix", "change"), [("mp4", with_long_mdat), ("avi", bytes), ("avi", with_large_riff), ("mkv", without_cues)]
)
@pytest.mark.parametrize("lost", [300, 0.3])
def test_a_file_without_its_last_pictures_is_truncated(
    originals: dict[str, bytes], tmp_path: Path, suffix: str, change: Callable[[bytes], bytes], lost: float
) -> None:
    content, path = change(originals[suffix]), tmp_path / f"a.{suffix}"
    path.write_bytes(content[: -int(lost if lost > 1 else lost * len(content))])
    with pytest.raises(UnreadableVideo, match="truncated"):
        scan(path)


def sound_with(path: Path, codec: str, disposition: Disposition, moving: bytes = b"") -> Path:
    """Write a sound file with a cover, and if given the bytes of an MP4 file, its video beside it."""
    with av.open(str(path), "w") as target:
        sound = target.add_stream("flac" if path.suffix in (".mkv", ".flac") else "aac", rate=8000, layout="mono")
        cover = target.add_stream(codec, rate=25)
        cover.width = cover.height = 96
        cover.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
        cover.disposition = disposition
        picture = av.VideoFrame.from_ndarray(np.zeros((96, 96, 3), np.uint8), format="rgb24")
        picture = picture.reformat(format=cover.pix_fmt)
        picture.pts, picture.time_base = 0, Fraction(1, 25)
        film, source = path.with_name("film.mp4"), None
        if moving:
            film.write_bytes(moving)
            source = av.open(str(film))
            video = target.add_stream_from_template(source.streams.video[0])
            video.disposition = Disposition(0)
        target.mux(cover.encode(picture))
        target.mux(cover.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        silence.sample_rate, silence.pts = 8000, 0
        target.mux(sound.encode(silence))
        target.mux(sound.encode(None))
        for packet in source.demux(source.streams.video[0]) if source else ():
            if packet.size:
                packet.stream = video
                target.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mjpeg"), ("a.mp4", "png"), ("a.mkv", "mjpeg"), ("a.flac", "png")]
)
def test_a_sound_file_with_a_cover_is_no_video(tmp_path: Path, name: str, codec: str) -> None:
    path = sound_with(tmp_path / name, codec, Disposition.attached_pic)  # Matroska forgets that it is one
    with pytest.raises(UnreadableVideo, match="no video stream: a sound file with a cover"):
        scan(path)


def test_the_cover_of_a_video_is_not_shown(originals: dict[str, bytes], tmp_path: Path) -> None:
    path = sound_with(tmp_path / "a.mp4", "mjpeg", Disposition.attached_pic, originals["mp4"])
    video = scan(path)
    assert (video.codec, video.frames, video.width, video.stream) == ("h264", FRAMES, 64, 1)


def test_a_stream_that_never_says_its_size_is_no_video(originals: dict[str, bytes], tmp_path: Path) -> None:
    film, path = tmp_path / "a.mp4", tmp_path / "a.ts"
    film.write_bytes(originals["mp4"])
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.codec_context.extradata = None
        for packet in source.demux(video=0):
            if packet.size and not packet.is_keyframe:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(UnreadableVideo, match="no picture can be decoded|no video stream|no frames"):
        scan(path)


def test_whatever_a_scan_raises_costs_one_file(
    originals: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(originals["mp4"])

    def odd(path: Path, label: int) -> indexing.Video:
        if path.stem == "a":
            raise ZeroDivisionError("integer\ndivision")
        return scan(path, label)

    monkeypatch.setattr(indexing, "scan", odd)
    index = indexing.build([("a.mp4", 0), ("b.mp4", 0)], ("x",), tmp_path, workers=0, progress=False)
    assert list(index.table["path"]) == ["b.mp4"]
    assert index.skipped == (("a.mp4", "ZeroDivisionError: integer division"),)
