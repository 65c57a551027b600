"""Videos whose pictures change their size, format or colors in mid-stream are shown whole, by every decoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image
from reelbench import pipelines
from reelbench.harness.decoders import chart
from reelbench.pipelines import _changes, _frames, reference, software
from reelbench.pipelines._encode import CODECS, encode
from reelbench.pipelines.index import Index, UnreadableVideo, Video, build, scan
from reelbench.pipelines.transcode import transcode
from reelbench.spec import Clip

FRAMES = 4
SIDE = 6 * chart.PATCH
FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
SUFFIXES = {
    "vp8": ".webm",
    "vp9": ".webm",
    "av1": ".mkv",
    "mjpeg": ".mkv",
    "h264": ".ts",
    "hevc": ".ts",
}


def picture(side: int) -> np.ndarray:
    return np.ascontiguousarray(chart.picture()[:: SIDE // side, :: SIDE // side])


def packets(path: Path, codec: str) -> Iterator[av.Packet]:
    """The packets of a file, with the headers in them that MP4 keeps apart."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        headers = BitStreamFilterContext(FILTERS[codec], stream) if codec in FILTERS else None
        for packet in container.demux(stream):
            if packet.size:
                yield from headers.filter(packet) if headers else [packet]


def changing(folder: Path, codec: str, *sides: int) -> Path:
    """A video of the chart in each of these sizes, `FRAMES` frames each."""
    joined, parts = folder / f"{codec}{SUFFIXES[codec]}", []
    for side in sides:
        parts.append(folder / f"{side}{CODECS[codec].suffix}")
        encode(parts[-1], [picture(side)] * FRAMES, codec=codec, fps=25, gop=FRAMES)
    with av.open(str(parts[0])) as first, av.open(str(joined), "w") as target:
        copy = target.add_stream_from_template(first.streams.video[0], opaque=True)
        for number, part in enumerate(parts):
            base = None
            for packet in packets(part, codec):
                base = packet.dts if base is None else base
                start = round(number * FRAMES / 25 / packet.time_base) - base
                packet.pts, packet.dts, packet.stream = packet.pts + start, packet.dts + start, copy
                target.mux(packet)
    return joined


def middles(frames: np.ndarray) -> np.ndarray:
    """The patches' middles, F x 6 x 6 x 3."""
    patch = frames.shape[1] // 6
    return frames[:, patch // 2 :: patch, patch // 2 :: patch].astype(int)


def everything(video: Video) -> np.ndarray:
    size = video.width, video.height
    content = np.fromfile(video.path, np.uint8)
    wanted = np.arange(video.frames, dtype=np.int32)
    return software.decode(content, video.stream, wanted, video.pts, video.key_frames, (0, 0, *size), size=size)


@pytest.mark.parametrize("sides", [(96, 192), (192, 96)], ids=["grows", "shrinks"])
@pytest.mark.parametrize("codec", list(SUFFIXES))
def test_pictures_of_another_size_are_resampled_to_the_first(
    tmp_path: Path, codec: str, sides: tuple[int, int]
) -> None:
    video = scan(changing(tmp_path, codec, *sides))
    assert (video.width, video.height, video.frames) == (sides[0], sides[0], 2 * FRAMES)
    assert video.changes
    frames = everything(video)
    assert np.array_equal(frames, reference.decode(video.path, video.stream))
    assert np.abs(middles(frames) - middles(chart.picture()[None])).max() <= 12  # what the encoders leave


def shown(index: Index, decoder: str) -> np.ndarray:
    clip = Clip(frames=4, sampling="segments", size=96, short_side=96, mean=(0.0,) * 3, std=(1.0,) * 3)  # type: ignore[arg-type]
    with pipelines.open(index, clip=clip, batch=1, decoder=decoder, workers=1) as stream:
        (batch,) = stream.epoch()
        return batch.clip[0].permute(1, 2, 3, 0).numpy()


def test_a_decoder_that_cannot_follow_leaves_the_file_to_software(tmp_path: Path) -> None:
    index = build([(changing(tmp_path, "vp9", 192, 96), 0)], ("a",), tmp_path, workers=0, progress=False)
    assert not pipelines.supported(index, "cpu").any()
    index.save(tmp_path / "i.parquet")
    assert Index.load(tmp_path / "i.parquet")[0].changes
    assert np.abs(middles(shown(index, "dali")) - middles(chart.picture()[None])).max() <= 12


def test_a_transcoded_video_has_one_size(tmp_path: Path) -> None:
    index = build([(changing(tmp_path, "vp8", 192, 96), 0)], ("a",), tmp_path, workers=0, progress=False)
    index.save(tmp_path / "i.parquet")
    (made,) = transcode(tmp_path / "i.parquet", tmp_path / "out", short_side=192, workers=0, progress=False).videos()
    assert (made.frames, made.changes) == (2 * FRAMES, False)
    assert np.abs(middles(everything(made)) - middles(chart.picture()[None])).max() <= 16


@pytest.mark.parametrize("codec", list(CODECS))
def test_a_plain_video_does_not_change(tmp_path: Path, codec: str) -> None:
    path = tmp_path / f"a{CODECS[codec].suffix}"
    encode(path, [picture(192)] * 6, codec=codec, fps=25, gop=2)
    assert not scan(path).changes


def bits(*fields: tuple[int, int]) -> av.Packet:
    """A packet of these (value, number of bits)."""
    text = "".join(f"{value:0{width}b}" for value, width in fields)
    return av.Packet(bytes(int(text[k : k + 8].ljust(8, "0"), 2) for k in range(0, len(text), 8)) + bytes(30))


KEY = ((2, 2), (0, 2), (0, 1), (0, 1), (1, 1), (0, 1), (0x498342, 24), (1, 3), (0, 1))
INTER = ((2, 2), (0, 2), (0, 1), (1, 1), (1, 1), (0, 1), (0, 2), (1, 8), (0, 12))


@pytest.mark.parametrize(
    ("frame", "changed"),
    [
        ((*INTER, (1, 1)), False),  # the size of its first reference
        ((*INTER, (1, 3)), False),  # of its third
        ((*INTER, (0, 3), (319, 16), (239, 16)), False),
        ((*INTER, (0, 3), (159, 16), (119, 16)), True),
        ((*KEY, (319, 16), (179, 16)), True),
        ((*KEY[:-2], (2, 3), (0, 1), (319, 16), (239, 16)), True),  # another color space
        (((2, 2), (0, 2), (1, 1), (0, 3)), False),  # shows an earlier frame
    ],
)
def test_vp9_states_its_size_in_frames_that_are_no_key_frames(
    frame: tuple[tuple[int, int], ...], changed: bool
) -> None:
    watch = _changes.Watch("vp9", None)
    assert len(list(watch.through(iter([bits(*KEY, (319, 16), (239, 16)), bits(*frame)])))) == 2
    assert watch.changed == changed


# --- Folders of frames


def folder(path: Path, *pictures: Image.Image, suffix: str = ".jpg", **options: object) -> Path:
    path.mkdir()
    for number, shown in enumerate(pictures):
        shown.save(path / f"{number + 1:05}{suffix}", **options)  # type: ignore[arg-type]
    return path


def frames_of(path: Path) -> tuple[Video, np.ndarray]:
    """A folder's frames as the pipeline decodes them, before they are turned; the reference agrees."""
    video = scan(path)
    content = _frames.remux([file.read_bytes() for file in _frames.files(path)])
    size = video.width, video.height
    wanted = np.arange(video.frames, dtype=np.int32)
    frames = software.decode(content, 0, wanted, video.pts, video.key_frames, (0, 0, *size), size=size)
    assert np.array_equal(frames, reference.decode(path))
    return video, frames


def test_frames_of_several_sizes_and_modes_are_one_video(tmp_path: Path) -> None:
    whole = Image.fromarray(chart.picture())
    half = Image.fromarray(picture(96))
    jpegs = folder(tmp_path / "1", whole, half, whole.convert("CMYK"), half, quality=95, subsampling=0)
    clear = whole.convert("RGBA")
    clear.putalpha(128)
    pngs = folder(tmp_path / "2", whole, clear, half, whole.quantize(64, dither=Image.Dither.NONE), suffix=".png")
    for path in (jpegs, pngs):
        _, frames = frames_of(path)
        assert np.abs(middles(frames) - middles(chart.picture()[None])).max() <= 3
    gray, frames = frames_of(folder(tmp_path / "3", whole.convert("L"), whole, suffix=".png"))
    assert gray.pix_fmt == "gray"
    assert np.array_equal(frames[1], chart.picture())


@pytest.mark.parametrize("value", range(1, 9))
def test_frames_are_shown_upright_by_their_exif_header(tmp_path: Path, value: int) -> None:
    from PIL import ImageOps
    from reelbench.pipelines import _orientation

    exif = Image.Exif()
    exif[0x112] = value
    video, frames = frames_of(folder(tmp_path / "1", Image.fromarray(chart.picture()[:64]), exif=exif, quality=95))
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "1" / "00001.jpg"))
    apart = _orientation.apply(frames, (video.rotation, video.flipped))[0].astype(int) - np.array(upright)
    assert np.abs(apart).max() <= 3


def test_frames_of_several_orientations_are_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    path = folder(tmp_path / "1", Image.fromarray(picture(96)), exif=exif)
    Image.fromarray(picture(96)).save(path / "00002.jpg")
    with pytest.raises(UnreadableVideo, match="several formats or orientations"):
        scan(path)
