"""Whatever a camera or a downloader leaves behind is shown as the slow reference shows it, or refused with a reason."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from reelbench import pipelines
from reelbench.pipelines import _container, _files, _header, _packets, reference
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import encode
from reelbench.pipelines.index import Index, from_videos, scan
from reelbench.pipelines.software import DecodedSource
from reelbench.pipelines.source import BatchSampler, ClipSampler, EncodedSource
from reelbench.spec import Clip, Views

CLIP = Clip(frames=5, stride=2, size=40, short_side=48)
VIEWS = Views(clips=2, crops=3)


def pixels(frames: int, width: int, height: int) -> np.ndarray:
    """Every frame differs from every other by far more than an encoder loses."""
    coarse = np.random.default_rng(frames).integers(
        0, 256, (frames, height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8
    )
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]


def film(
    path: Path, *, size: tuple[int, int] = (96, 72), times: list[int] | None = None, encoder: str = "libx264",
    pix_fmt: str = "yuv420p", full_range: bool = False, turned: int = 0, **options: str,
) -> Path:  # fmt: skip
    """Encode frames shown at the given thirtieths of a second."""
    times = list(range(20)) if times is None else times
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=30, options={"g": "6", "threads": "1", **options})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        if full_range:
            stream.codec_context.color_range = 2
        if turned:
            stream.set_display_rotation(turned)
        for time, picture in zip(times, pixels(len(times), *size), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def one(*videos: indexing.Video) -> Index:
    return from_videos(videos, ("a",), videos[0].path.parent)


def shown(*videos: indexing.Video) -> tuple[torch.Tensor, str]:
    """Return all views of each video, V x views x 3 x T x S x S, and the decoder that was chosen."""
    with pipelines.open(one(*videos), clip=CLIP, batch=len(videos), views=VIEWS, workers=1) as stream:
        (batch,) = stream.epoch()
    assert not stream.skipped
    return batch.clip.unflatten(0, (len(videos), VIEWS.count)), stream.decoder


def check(clips: torch.Tensor, video: indexing.Video) -> None:
    frames = reference.decode(video.path, video.stream, video.rotation, video.flipped)
    assert len(frames) == video.frames
    wanted = torch.from_numpy(reference.views(frames, ClipSampler(clip=CLIP, views=VIEWS), 0, 0))
    std = torch.tensor(CLIP.std).view(3, 1, 1, 1)
    assert ((clips - wanted) * std).abs().max() < 0.75


def agrees(video: indexing.Video) -> str:
    """Compare all views with the reference's, and return the decoder that was chosen."""
    (clips,), decoder = shown(video)
    check(clips, video)
    return decoder


FORMATS = {
    "portrait": {"size": (72, 128)},
    "odd sizes": {"size": (97, 71), "pix_fmt": "yuv444p"},
    "10 bit": {"pix_fmt": "yuv420p10le"},
    "4:2:2": {"pix_fmt": "yuv422p"},
    "4:4:4": {"pix_fmt": "yuv444p"},
    "full range": {"pix_fmt": "yuvj420p", "full_range": True},
    "one frame": {"times": [0]},
    "variable frame rate": {"times": [0, 1, 2, 10, 11, 30, 31, 33, 60, 61, 62, 90]},
    "b frames": {"bf": "3"},
    "open groups": {"encoder": "libx265", "x265-params": "log-level=none:open-gop=1:keyint=6:min-keyint=6:bframes=3"},
    "turned right": {"turned": -90},
    "turned left": {"turned": 90},
    "upside down": {"turned": 180},
    "with blanks and 'quotes'": {},
    "ein Bär läuft – 走る": {},
    "percent %d #1": {},
}


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[indexing.Video, torch.Tensor]]:
    """Each format's video and its views, all of one batch."""
    root = tmp_path_factory.mktemp("formats")
    videos = [
        scan(film(root / f"{name.replace(':', '')}.mp4", **options))  # type: ignore[arg-type]
        for name, options in FORMATS.items()
    ]
    clips, decoder = shown(*videos)
    assert decoder == "software"
    return dict(zip(FORMATS, zip(videos, clips, strict=True), strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_shown_as_the_reference_shows_it(formats: dict, name: str) -> None:
    video, clips = formats[name]
    check(clips, video)
    assert video.rotation == -int(FORMATS[name].get("turned", 0)) % 360  # type: ignore[call-overload]
    drawn = pixels(video.frames, video.width, video.height)
    difference = reference.decode(video.path).astype(int) - drawn
    assert np.abs(difference).mean() < 16  # the colours are those that were drawn, whatever the range


def test_headers_tell_what_decoding_a_picture_tells(
    formats: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan that decodes nothing finds every field of a scan in which FFmpeg decodes the first pictures."""
    films = [video.path for video, _ in formats.values()]
    for encoder, profile, pix_fmt in (("libvpx-vp9", "0", "yuv420p"), ("libvpx-vp9", "1", "yuv444p")):
        films.append(film(tmp_path / f"{profile}.webm", encoder=encoder, pix_fmt=pix_fmt, profile=profile))
    films += [film(tmp_path / f"{size[0]}.webm", encoder="libvpx", size=size) for size in ((96, 72), (640, 480))]
    read, without = _header.read, []
    monkeypatch.setattr(_header, "read", lambda *asked: without.append(found := read(*asked)) or found)
    quick = [scan(path) for path in films]
    by_headers = [found for found in without if found]
    assert len(by_headers) == len(films) - 4  # HEVC and VP8 are not asked; a long header of VP9 needs the other way
    monkeypatch.setattr(_container, "holds_times", lambda path: False)
    for one, other in zip(quick, map(scan, films), strict=True):
        for field in dataclasses.fields(one):
            assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), (one.path, field.name)


@pytest.mark.parametrize("size", [(97, 71), (72, 128)])
def test_odd_and_portrait_vp9_goes_through_dali(tmp_path: Path, size: tuple[int, int]) -> None:
    video = scan(film(tmp_path / "a.webm", size=size, encoder="libvpx-vp9", deadline="realtime"))
    assert agrees(video) == "dali"


def test_frames_before_time_zero_are_not_shown_or_rightly_shown(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", bf="0")
    for name in ("cut.mp4", "cut.mkv"):
        with av.open(str(whole)) as old, av.open(str(tmp_path / name), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(video=0):
                if packet.size:
                    packet.pts, packet.dts, packet.stream = packet.pts - 512 * 7, packet.dts - 512 * 7, stream
                    new.mux(packet)
        agrees(scan(tmp_path / name))


def test_a_negative_time_or_a_hidden_packet_is_not_left_to_dali(tmp_path: Path) -> None:
    video = scan(film(tmp_path / "a.webm", encoder="libvpx-vp9"))
    for odd in ({"pts": video.pts - 100}, {"hidden": 1}, {"rotation": 90}):
        assert pipelines.open(one(dataclasses.replace(video, **odd)), clip=CLIP, batch=1).decoder == "software"


def test_sound_alone_and_a_still_are_refused_or_shown(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    index = indexing.build([("sound.mp4", 0)], ("a",), tmp_path, workers=0)
    assert index.skipped == (("sound.mp4", "no video stream"),)


# --- Folders of frames


def folder(path: Path, pix_fmt: str = "yuvj420p", count: int = 14, name: str = "{:05}.jpg") -> Path:
    path.mkdir()
    for number, picture in enumerate(pixels(count, 98, 70)):
        context = av.CodecContext.create("mjpeg", "w")
        context.width, context.height, context.pix_fmt, context.time_base = 98, 70, pix_fmt, Fraction(1, 25)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=pix_fmt)
        data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
        (path / name.format(number + 1)).write_bytes(data)
    return path


@pytest.mark.parametrize("pix_fmt", ["yuvj420p", "yuvj444p"])
def test_a_folder_of_frames_is_a_video(tmp_path: Path, pix_fmt: str) -> None:
    agrees(scan(folder(tmp_path / "1", pix_fmt)))


def test_a_frame_that_changes_breaks_its_folder(tmp_path: Path) -> None:
    videos = [scan(folder(tmp_path / name)) for name in ("1", "2", "3")]
    (tmp_path / "2" / "00004.jpg").write_bytes((tmp_path / "2" / "00005.jpg").read_bytes())
    (tmp_path / "3" / "00014.jpg").unlink()
    with pipelines.open(one(*videos), clip=CLIP, batch=3, workers=1) as stream:
        (batch,) = stream.epoch()
    assert batch.video.tolist() == [0]
    assert [Path(path).name for path, _ in stream.skipped] == ["2", "3"]
    assert {reason for _, reason in stream.skipped} == {"changed since it was indexed"}


# --- Large files


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", {"bf": "3"}),
        ("mp4", {"encoder": "libx265", **FORMATS["open groups"]}),
        ("mkv", {"bf": "2"}),
        ("webm", {"encoder": "libvpx-vp9"}),
    ],
)
def test_an_excerpt_shows_the_same_frames(tmp_path: Path, suffix: str, options: dict) -> None:
    """Any choice of frames, from a path as from bytes, and never more packets than the groups they lie in."""
    video = scan(film(tmp_path / f"a.{suffix}", times=list(range(60)), **options))
    everything, rng = reference.decode(video.path), np.random.default_rng(0)
    for count in (1, 2, 3, 6, 60):
        wanted = np.unique(rng.integers(0, 60, count)).astype(np.int32)
        for content in (video.path, np.fromfile(video.path, np.uint8)):
            data, numbers = _packets.excerpt(content, video.stream, wanted, video.pts, video.key_frames)
            (tmp_path / "excerpt.mkv").write_bytes(data.tobytes())
            shown = reference.decode(tmp_path / "excerpt.mkv")
            assert np.array_equal(shown[numbers], everything[wanted])
            if count <= 3:
                assert data.size < video.size * 0.75


def test_a_large_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is verified once; then the graph gets an excerpt, and the software decoder opens the path."""
    path = tmp_path / "a.webm"
    encode(path, pixels(40, 96, 72), codec="vp9", fps=30, gop=5)
    video, clip_sampler = scan(path), ClipSampler(clip=CLIP, views=Views())
    everything, order = reference.decode(path), BatchSampler(total=1, batch=1, training=False)
    cut = clip_sampler.sample(40, (96, 72), 0, 0)
    monkeypatch.setattr(_files, "LARGE", 1000)
    monkeypatch.setattr(np, "fromfile", None)
    files = _files.Files(one(video))
    (data, numbers), _ = EncodedSource(files, order, clip_sampler).content(0, cut)
    assert data.size < video.size / 2
    (tmp_path / "excerpt.mkv").write_bytes(data.tobytes())
    assert np.array_equal(reference.decode(tmp_path / "excerpt.mkv")[numbers], everything[cut.frames])
    (frames,), boxes = DecodedSource(files, order, clip_sampler).content(0, cut)
    x, y = (cut.boxes - boxes)[0, :2].astype(int)
    shown = everything[cut.frames, y : y + frames.shape[1], x : x + frames.shape[2]]
    assert np.array_equal(frames[:, 4:-4, 4:-4], shown[:, 4:-4, 4:-4])  # the region's own edges lack neighbours
    path.write_bytes(bytes(video.size))
    with pytest.raises(indexing.UnreadableVideo, match="changed since"):
        files.fetch(0, cut.frames)
