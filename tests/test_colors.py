"""Colors are those that a file is tagged with, whichever decoder shows it: a chart of patches, by matrix and range."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from reelbench import pipelines
from reelbench.spec import Clip
from reelbench.pipelines import _colors, reference
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import CODECS
from reelbench.pipelines.index import Index, scan
from reelbench.pipelines.transcode import transcode

MATRICES = {"unknown": 2, "bt709": 1, "smpte170m": 6, "smpte240m": 7, "bt2020nc": 9}  # AVColorSpace
RANGES = {"unknown": 0, "tv": 1, "pc": 2}  # AVColorRange
SWSCALE = {"bt709": 1, "smpte240m": 7, "bt2020nc": 9}  # SWS_CS_…; 5 is BT.601
SIDE = 96
CLIP = Clip(frames=4, sampling="segments", size=SIDE, short_side=SIDE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def chart() -> np.ndarray:
    """Patches of 16 x 16 pixels, H W 3: colors that any of the matrices can show, from dark to light."""
    patches = np.array(
        [(r, g, b) for r in (60, 130, 190) for g in (60, 120, 160, 190) for b in (60, 130, 190)], np.uint8
    )
    return patches.reshape(6, 6, 3).repeat(16, axis=0).repeat(16, axis=1)


def film(path: Path, codec: str, matrix: str, color_range: str, *, picture: np.ndarray | None = None) -> Path:
    """Encode four frames of a picture that is converted by the matrix and range, and tagged so."""
    how, picture = CODECS[codec], chart() if picture is None else picture
    with av.open(str(path), "w") as container:
        stream = container.add_stream(how.encoder, rate=25, options={**how.options, "crf": "4", "g": "2"})
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = how.pix_fmt
        stream.codec_context.colorspace = MATRICES[matrix]
        stream.codec_context.color_range = RANGES[color_range]
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format=how.pix_fmt,
                dst_colorspace=SWSCALE.get(matrix, 5),
                dst_color_range=2 if color_range == "pc" else 1,
            )
            frame.colorspace, frame.color_range = MATRICES[matrix], RANGES[color_range]
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def indexed(*films: Path) -> Index:
    index = indexing.build([(path.name, 0) for path in films], ("a",), films[0].parent, workers=0)
    assert not index.rejected
    return index


def shown(index: Index, decoder: str, clip: Clip = CLIP) -> np.ndarray:
    """The first frame of each video, V x S x S x 3."""
    with pipelines.open(index, clip=clip, batch=len(index), decoder=decoder, workers=1) as stream:
        return np.concatenate([batch.clip[:, :, 0].permute(0, 2, 3, 1).numpy() for batch in stream.epoch()])


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 10 * np.log10(255**2 / error) if error else 99.0


def inside(pictures: np.ndarray) -> np.ndarray:
    """The patches' middles, which no chroma of a neighbor reaches: H/16 x W/16 x 3."""
    return pictures[..., 8::16, 8::16, :]


def test_all_decoders_show_the_tagged_colors(tmp_path: Path):
    tags = [(matrix, extent) for matrix in ("bt709", "smpte240m", "bt2020nc") for extent in ("tv", "pc")]
    index = indexed(*(film(tmp_path / f"{matrix}_{extent}.webm", "vp9", matrix, extent) for matrix, extent in tags))
    for dali, software in zip(shown(index, "dali"), shown(index, "software"), strict=True):
        assert np.abs(inside(software) - inside(chart())).max() <= 6  # what the encoder leaves
        assert psnr(dali, software) > 50
        assert np.abs(dali - software).max() <= 2


def test_bt601_and_untagged_files_are_the_same_bit_for_bit(tmp_path: Path):
    """Untagged means BT.601. VP8 has nothing else, whatever its container says."""
    tags = [("vp9", "unknown", "unknown"), ("vp9", "smpte170m", "tv"), ("vp9", "smpte170m", "pc"),
            ("vp8", "unknown", "unknown"), ("vp8", "bt709", "pc")]  # fmt: skip
    index = indexed(*(film(tmp_path / f"{'_'.join(tag)}.webm", *tag) for tag in tags))
    assert {(video.color_matrix, video.color_range) for video in index.videos() if video.codec == "vp8"} == {
        ("bt470bg", "tv")
    }
    dali, software = shown(index, "dali"), shown(index, "software")
    for row, video in enumerate(index.videos()):
        assert np.array_equal(dali[row], software[row])
        assert np.array_equal(software[row], reference.decode(video.path)[0])


def test_a_batch_of_several_tags_corrects_each_by_its_own(tmp_path: Path):
    """Untagged ones pass unchanged beside a corrected one; what is decoded in software is not corrected twice."""
    tags = ("unknown", "bt709", "smpte170m", "bt2020nc", "bt709")
    index = indexed(*(film(tmp_path / f"{k}.webm", "vp9", tag, "tv") for k, tag in enumerate(tags)))
    videos = list(index.videos())
    videos[4] = dataclasses.replace(videos[4], hidden=1)
    odd = indexing.from_videos(videos, index.classes, index.root)
    for some in (index, odd):
        dali, software = shown(some, "dali"), shown(some, "software")
        for row in range(len(some)):
            assert psnr(dali[row], software[row]) > 50
        assert np.array_equal(dali[[0, 2]], software[[0, 2]])
    assert np.array_equal(dali[4], software[4])


def test_a_part_of_a_full_range_picture_keeps_its_range(tmp_path: Path):
    """The software decoder crops before it converts: the tags have to survive that."""
    wide = np.concatenate([np.full_like(chart(), 128), chart(), np.full_like(chart(), 128)], axis=1)
    index = indexed(film(tmp_path / "a.webm", "vp9", "bt709", "pc", picture=wide))
    assert np.abs(inside(shown(index, "software")[0]) - inside(chart())).max() <= 6


def test_where_colors_need_correction_a_cpu_prefers_software(tmp_path: Path):
    plain = film(tmp_path / "a.webm", "vp9", "smpte170m", "tv")
    tagged = film(tmp_path / "b.webm", "vp9", "bt709", "tv")
    assert pipelines.decoders(indexed(plain), "cpu") == ("dali", "software")
    assert pipelines.decoders(indexed(tagged), "cpu") == ("software", "dali")


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "vp8", "av1", "mpeg4", "mjpeg"])
def test_the_index_names_the_colors_that_a_decoder_finds(tmp_path: Path, codec: str):
    for matrix, color_range in (("unknown", "unknown"), ("bt709", "tv"), ("bt2020nc", "pc")):
        path = film(tmp_path / f"{matrix}{CODECS[codec].suffix}", codec, matrix, color_range)
        assert tagged(path) == decoded(path)


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "mpeg4"])
@pytest.mark.parametrize("stated", ["unknown", "bt2020nc"])
def test_where_container_and_stream_differ_the_index_sides_with_the_decoder(tmp_path: Path, codec: str, stated: str):
    before = film(tmp_path / f"before{CODECS[codec].suffix}", codec, stated, "unknown")
    after = tmp_path / "after.mkv"
    with av.open(str(before)) as source, av.open(str(after), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        copy.codec_context.colorspace, copy.codec_context.color_range = MATRICES["bt709"], RANGES["pc"]
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.stream, packet.dts = copy, number if packet.dts is None else packet.dts
            packet.pts = packet.dts if packet.pts is None else packet.pts
            target.mux(packet)
    assert tagged(after) == decoded(after)


def tagged(path: Path) -> tuple[str, str]:
    video = scan(path)
    return video.color_matrix, video.color_range


def decoded(path: Path) -> tuple[str, str]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return _colors.MATRICES[frame.colorspace], _colors.RANGES[frame.color_range]


def test_a_folder_of_frames_is_in_full_range(tmp_path: Path):
    film(tmp_path / "%05d.jpg", "mjpeg", "unknown", "pc")
    assert tagged(tmp_path) == ("bt470bg", "pc")


def test_an_index_of_an_earlier_release_is_read_as_untagged(tmp_path: Path):
    indexed(film(tmp_path / "a.webm", "vp9", "bt709", "tv")).save(tmp_path / "new.parquet")
    assert Index.load(tmp_path / "new.parquet")[0].color_matrix == "bt709"
    table = pq.read_table(tmp_path / "new.parquet").drop_columns(["color_matrix", "color_range"])
    pq.write_table(table, tmp_path / "old.parquet")
    video = Index.load(tmp_path / "old.parquet")[0]
    assert (video.color_matrix, video.color_range) == ("unknown", "unknown")


def test_transcoded_videos_keep_their_colors(tmp_path: Path):
    """They are converted to what every decoder shows without correction, and tagged so."""
    source = indexed(film(tmp_path / "a.mp4", "h264", "bt709", "tv"), film(tmp_path / "b.mp4", "h264", "bt709", "pc"))
    source.save(tmp_path / "a.parquet")
    for codec in ("h264", "hevc", "vp9", "vp8", "av1"):
        made = transcode(tmp_path / "a.parquet", tmp_path / codec, codec=codec, workers=0, progress=False)
        for video in made.videos():
            assert (video.color_matrix, video.color_range) == ("bt470bg" if codec == "vp8" else "smpte170m", "tv")
            assert np.abs(inside(reference.decode(video.path)[0]) - inside(chart()).astype(int)).max() <= 12
