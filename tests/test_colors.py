"""Colors are those that a file is tagged with, whichever decoder shows it: a chart of patches, by matrix and range."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from reelbench import pipelines
from reelbench.harness.decoders import chart
from reelbench.harness.decoders.chart import film
from reelbench.pipelines import _colors, reference
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import CODECS
from reelbench.pipelines.index import Index, scan
from reelbench.pipelines.transcode import transcode
from reelbench.spec import Clip

SIDE = 6 * chart.PATCH
CLIP = Clip(frames=4, sampling="segments", size=SIDE, short_side=SIDE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def indexed(*films: Path) -> Index:
    index = indexing.build([(path.name, 0) for path in films], ("a",), films[0].parent, workers=0)
    assert not index.skipped
    return index


def shown(index: Index, decoder: str, clip: Clip = CLIP) -> np.ndarray:
    """The first frame of each video, V x S x S x 3."""
    with pipelines.open(index, clip=clip, batch=len(index), decoder=decoder, workers=1) as stream:
        return np.concatenate([batch.clip[:, :, 0].permute(0, 2, 3, 1).numpy() for batch in stream.epoch()])


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 10 * np.log10(255**2 / error) if error else 99.0


def inside(pictures: np.ndarray) -> np.ndarray:
    """The patches' middles, which no chroma of a neighbor reaches: 6 x 6 x 3."""
    return pictures[..., chart.PATCH // 2 :: chart.PATCH, chart.PATCH // 2 :: chart.PATCH, :].astype(np.float64)


def test_all_decoders_show_the_tagged_colors(tmp_path: Path):
    tags = [(matrix, extent) for matrix in ("bt709", "smpte240m", "bt2020nc") for extent in ("tv", "pc")]
    index = indexed(*(film(tmp_path / f"{matrix}_{extent}.webm", "vp9", matrix, extent) for matrix, extent in tags))
    for dali, software in zip(shown(index, "dali"), shown(index, "software"), strict=True):
        assert np.abs(inside(software) - inside(chart.picture())).max() <= 6  # what the encoder leaves
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


@pytest.mark.slow  # several streams, each with its decoders
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
    index = indexed(film(tmp_path / "a.webm", "vp9", "bt709", "pc"))
    middle = shown(index, "software", dataclasses.replace(CLIP, size=2 * chart.PATCH))[0]
    assert np.abs(inside(middle) - inside(chart.picture())[2:4, 2:4]).max() <= 6


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
        copy.codec_context.colorspace, copy.codec_context.color_range = 1, 2  # bt709, pc
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
    Image.fromarray(chart.picture()).save(tmp_path / "00001.jpg")
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
            assert np.abs(inside(reference.decode(video.path)[0]) - inside(chart.picture())).max() <= 12
