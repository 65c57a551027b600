"""Every data set is listed from a miniature of its official files, with real videos on the disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from reelbench.errors import UserError
from reelbench.pipelines import datasets
from reelbench.pipelines._encode import encode
from reelbench.pipelines.index import Index, mirrored


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of video, 15 frames."""
    path = tmp_path_factory.mktemp("clip") / "clip.webm"
    frames = np.random.default_rng(0).integers(0, 255, (15, 64, 64, 3), dtype=np.uint8)
    encode(path, frames, codec="vp9", fps=15, gop=5)
    return path


@pytest.fixture
def put(clip: Path, tmp_path: Path) -> Callable[..., None]:
    """Copy the clip to each of these places below `tmp_path`."""

    def copy(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, tmp_path / name)

    return copy


def _write(path: Path, content: str | object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def _frames(folder: Path, count: int, name: str = "{:05d}.jpg") -> None:
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        with av.open(str(folder / name.format(number)), "w", format="image2") as container:
            stream = container.add_stream("mjpeg", rate=1)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuvj420p")))
            container.mux(stream.encode(None))


def _build(name: str, root: Path, split: str = "all") -> Index:
    return datasets.build_index(name, root, split, workers=0, progress=False)


def _rows(index: Index) -> list[tuple[str, object]]:
    return [(video.path.relative_to(index.root).as_posix(), video.label) for video in index.videos()]


def test_every_data_set_states_its_folders_and_splits() -> None:
    for name in datasets.names():
        module = __import__(f"reelbench.pipelines.datasets.{name}", fromlist=["index"])
        assert "ROOT" in (module.__doc__ or ""), name
        assert isinstance(module.SPLITS, tuple), name


def test_a_flat_folder_is_one_class(tmp_path: Path, put: Callable[..., None]) -> None:
    put("b.webm", "a.mkv")
    index = _build("folder", tmp_path)
    assert index.classes == (tmp_path.name,)
    assert _rows(index) == [("a.mkv", 0), ("b.webm", 0)]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no videos"):
        _build("folder", tmp_path)


def test_folder(tmp_path: Path, put: Callable[..., None]) -> None:
    put("run/b.webm", "run/more/a.mkv", "jump/c.webm")
    _frames(tmp_path / "jump" / "d", 4)
    (tmp_path / "jump" / "notes.txt").write_text("not a video")
    index = _build("folder", tmp_path)
    assert index.classes == ("jump", "run")
    assert _rows(index) == [("jump/c.webm", 0), ("jump/d", 0), ("run/b.webm", 1), ("run/more/a.mkv", 1)]
    frames = index[1]
    assert (frames.codec, frames.frames, frames.width, frames.height) == ("frames", 4, 64, 48)
    assert not index.changed(contents=True)
    (frames.path / "00003.jpg").unlink()
    assert index.changed() == (frames.path,)


def test_csv_with_spans_names_and_a_missing_file(tmp_path: Path, put: Callable[..., None]) -> None:
    put("a, b.webm")
    _write(tmp_path / "all.csv", 'path,label,start,end\n"a, b.webm",run,0.2,0.6\n"a, b.webm",jump,,\ngone.mp4,run,,\n')
    index = _build("csv", tmp_path)
    assert index.classes == ("jump", "run")
    assert [(video.label, video.offset, video.frames) for video in index.videos()] == [(1, 3, 6), (0, 0, 15)]
    assert index.skipped == (("gone.mp4", "missing"),)


def test_csv_names_what_is_alike_else_the_file_does(tmp_path: Path, put: Callable[..., None]) -> None:
    """Two spans of one file are of one recording, whatever the list says."""
    put("a.webm", "b.webm")
    _write(
        tmp_path / "list.csv", "path,label,start_frame,end_frame,group\na.webm,0,0,5,x\nb.webm,0,5,9,\nb.webm,0,,,\n"
    )
    index = _build("csv", tmp_path / "list.csv")
    first, second, third = index.groups
    assert (first, second == third, second == index[1].hash) == ("x", True, True)
    index.save(tmp_path / "index.parquet")
    assert Index.load(tmp_path / "index.parquet").groups == index.groups


def test_csv_with_many_labels(tmp_path: Path, put: Callable[..., None]) -> None:
    put("a.webm", "b.webm")
    _write(tmp_path / "t.csv", "path,label\na.webm,0|2\nb.webm,1\n")
    index = _build("csv", tmp_path / "t.csv")
    assert (index.multi_label, index.metric, index.classes) == (True, "map", ("0", "1", "2"))
    assert [video.label for video in index.videos()] == [(0, 2), (1,)]


def test_csv_span_after_the_end_is_refused(tmp_path: Path, put: Callable[..., None]) -> None:
    put("a.webm")
    _write(tmp_path / "t.csv", "path,label,start,end\na.webm,0,5,9\na.webm,0,0,1\n")
    assert [reason for _, reason in _build("csv", tmp_path / "t.csv").skipped] == ["no frame lies in 5.0..9.0 seconds"]


@pytest.mark.parametrize(
    "table", ["file,class\na,b\n", "path,label\na.webm,\n", "path,label,start,end\na.webm,0,2,1\n", "path,label\nz,0\n"]
)
def test_csv_mistakes_are_one_line(tmp_path: Path, put: Callable[..., None], table: str) -> None:
    put("a.webm")
    _write(tmp_path / "all.csv", table)
    with pytest.raises(UserError):
        _build("csv", tmp_path)


def test_filelist_of_videos(tmp_path: Path, put: Callable[..., None]) -> None:
    put("run/with blank.webm", "videos/jump/b.webm")
    _write(tmp_path / "train.txt", "run/with blank.webm 1\njump/b.webm 0\ngone/c.mp4 1\n")
    index = _build("filelist", tmp_path / "train.txt")
    assert _rows(index) == [("run/with blank.webm", 1), ("videos/jump/b.webm", 0)]
    assert index.skipped == (("gone/c.mp4", "missing"),)


def test_filelist_of_frames(tmp_path: Path) -> None:
    _frames(tmp_path / "rawframes" / "a", 6, "img_{:05d}.jpg")
    _write(tmp_path / "t.txt", "a 6 0\ngone 5 1\n")
    index = _build("filelist", tmp_path / "t.txt")
    assert [(video.codec, video.frames, video.label) for video in index.videos()] == [("frames", 6, 0)]
    _write(tmp_path / "o.txt", "a 2 3 0\n")
    assert [(video.offset, video.frames) for video in _build("filelist", tmp_path / "o.txt", "offset").videos()] == [
        (2, 3)
    ]


def test_filelist_with_many_labels_and_with_names(tmp_path: Path, put: Callable[..., None]) -> None:
    put("a.webm", "b.webm")
    _write(tmp_path / "multi.txt", "a.webm 0 3\nb.webm 1\n")
    assert [video.label for video in _build("filelist", tmp_path / "multi.txt").videos()] == [(0, 3), (1,)]
    _write(tmp_path / "named.txt", "a.webm\tplaying chess\nb.webm\tarchery\n")
    named = _build("filelist", tmp_path / "named.txt")
    assert named.classes == ("archery", "playing chess")
    assert [video.label for video in named.videos()] == [1, 0]


def _kinetics(count: int) -> str:
    rows = [f'"class {i:03d}",id{i:03d},0,10,train' for i in range(count)]
    return "\n".join(["label,youtube_id,time_start,time_end,split", *rows])


def test_kinetics(tmp_path: Path, put: Callable[..., None]) -> None:
    put("videos_train/class_001/id001_000000_000010.webm", "videos_train/class_007/id007.webm")
    _write(tmp_path / "annotations" / "kinetics_train.csv", _kinetics(400))
    index = _build("kinetics", tmp_path, "train")
    assert index.classes[1] == "class_001"
    assert [video.label for video in index.videos()] == [1, 7]
    assert index.groups == ("id001", "id007")
    assert len(index.skipped) == 398
    _write(tmp_path / "annotations" / "kinetics_train.csv", _kinetics(399))
    with pytest.raises(UserError, match="399 classes"):
        _build("kinetics", tmp_path, "train")


def test_kinetics_by_a_ready_list(tmp_path: Path, put: Callable[..., None]) -> None:
    put("videos_val/x/a.webm")
    _write(tmp_path / "kinetics400_val_list_videos.txt", "x/a.webm 17\n")
    index = _build("kinetics", tmp_path, "val")
    assert (index[0].label, len(index.classes)) == (17, 400)


def test_ucf101(tmp_path: Path, put: Callable[..., None]) -> None:
    put(
        "videos/Archery/v_Archery_g08_c01.avi",
        "videos/Biking/v_Biking_g08_c01.avi",
        "videos/Biking/v_Biking_g01_c01.avi",
    )
    _write(tmp_path / "annotations" / "classInd.txt", "1 Archery\n2 Biking\n")
    _write(
        tmp_path / "annotations" / "trainlist02.txt", "Archery/v_Archery_g08_c01.avi 1\nBiking/v_Biking_g08_c01.avi 2\n"
    )
    _write(tmp_path / "annotations" / "testlist02.txt", "Biking/v_Biking_g01_c01.avi\nBiking/v_Biking_g01_c02.avi\n")
    train, test = (_build("ucf101", tmp_path, split) for split in ("train2", "test2"))
    assert [video.label for video in train.videos()] == [0, 1]
    assert train.groups == ("Archery/v_Archery_g08", "Biking/v_Biking_g08")
    assert [video.label for video in test.videos()] == [1]
    assert (len(test.skipped), test.metric) == (1, "mean_class")


def test_hmdb51(tmp_path: Path, put: Callable[..., None]) -> None:
    put("videos/run/a.avi", "videos/run/Big_Fish_run_f_cm_np1_ba_med_0.avi", "videos/jump/a.avi")
    _write(tmp_path / "annotations" / "run_test_split1.txt", "a.avi 1 \nBig_Fish_run_f_cm_np1_ba_med_0.avi 2 \n")
    _write(tmp_path / "annotations" / "jump_test_split1.txt", "a.avi 1 \nc.avi 0 \n")
    assert _rows(_build("hmdb51", tmp_path, "train1")) == [("videos/jump/a.avi", 0), ("videos/run/a.avi", 1)]
    test = _build("hmdb51", tmp_path, "test1")
    assert [(video.label, video.group) for video in test.videos()] == [(1, "Big_Fish")]


@pytest.mark.parametrize(("name", "prefix"), [("sthv1", "something-something-v1"), ("jester", "jester-v1")])
def test_sthv1_and_jester(tmp_path: Path, name: str, prefix: str) -> None:
    _write(tmp_path / "annotations" / f"{prefix}-labels.csv", "Swiping Left\nSwiping Right\nShaking, Hand\n")
    _write(tmp_path / "annotations" / f"{prefix}-validation.csv", "1;Shaking, Hand\n2;Swiping Left\n3;Swiping Right\n")
    _frames(tmp_path / "rawframes" / "1", 3)
    _frames(tmp_path / "rawframes" / "2", 5)
    index = _build(name, tmp_path, "val")
    assert [(video.label, video.frames) for video in index.videos()] == [(2, 3), (0, 5)]
    assert index.skipped == (("3", "missing"),)
    assert index.mirror == ((0, 1),)


def test_sthv2(tmp_path: Path, put: Callable[..., None]) -> None:
    put("videos/10.webm")
    notes = tmp_path / "annotations"
    _write(notes / "something-something-v2-labels.json", {"Closing something": "1", "Approaching something": "0"})
    _write(notes / "something-something-v2-train.json", [{"id": "10", "template": "Closing [something]"}, {"id": "11"}])
    index = _build("sthv2", tmp_path, "train")
    assert index.classes == ("Approaching something", "Closing something")
    assert _rows(index) == [("videos/10.webm", 1)]


def test_diving48(tmp_path: Path, put: Callable[..., None]) -> None:
    put("rgb/x_1.webm")
    _write(tmp_path / "Diving48_vocab.json", [["Back", "15som"], ["Front", "25som"]])
    _write(tmp_path / "Diving48_V2_test.json", [{"vid_name": "x_1", "label": 1}, {"vid_name": "x_2", "label": 0}])
    index = _build("diving48", tmp_path, "test")
    assert (index.classes[1], index[0].label, len(index.skipped)) == ("Front, 25som", 1, 1)
    assert index.groups == ("x",)


def test_moments_in_time(tmp_path: Path, put: Callable[..., None]) -> None:
    put("videos/validation/juggling/a.webm")
    _write(tmp_path / "annotations" / "moments_categories.txt", "juggling,1\napplauding,0\n")
    _write(tmp_path / "annotations" / "validationSet.csv", "juggling/a.mp4,juggling,3,0\n")
    assert _build("mit", tmp_path, "val")[0].label == 1


def test_multi_moments_in_time(tmp_path: Path, put: Callable[..., None]) -> None:
    put("videos/juggling/a.webm")
    _write(tmp_path / "annotations" / "mmit_categories.txt", "applauding,0\njuggling,1\n")
    _write(tmp_path / "annotations" / "trainingSet.csv", "juggling/a.mp4,0,1\n")
    index = _build("mmit", tmp_path, "train")
    assert (index[0].label, index.metric) == ((0, 1), "map_by_video")


def test_activitynet_segments(tmp_path: Path, put: Callable[..., None]) -> None:
    put("videos/v_abc.webm")
    notes = [{"segment": [0.0, 0.4], "label": "Surfing"}, {"segment": [0.4, 9.0], "label": "Archery"}]
    database = {"abc": {"subset": "validation", "annotations": notes}, "def": {"subset": "testing", "annotations": []}}
    _write(tmp_path / "annotations" / "activity_net.v1-3.min.json", {"database": database})
    index = _build("activitynet", tmp_path, "val")
    assert [(video.label, video.offset, video.frames) for video in index.videos()] == [(1, 0, 6), (0, 6, 9)]


def test_hvu(tmp_path: Path, put: Callable[..., None]) -> None:
    put("videos_val/abc_000003_000013.webm")
    _write(tmp_path / "annotations" / "HVU_Tags_Categories_V1.0.csv", "Tag,Category\nsea,scene\nsurfing,action\n")
    _write(
        tmp_path / "annotations" / "HVU_Val_V1.0.csv", "Tags,youtube_id,time_start,time_end\nsea|surfing,abc,3.0,13.0\n"
    )
    index = _build("hvu", tmp_path, "val")
    assert (index.classes, index[0].label) == (("action/surfing", "scene/sea"), (0, 1))
    assert index.groups == ("abc",)


def test_omnisource(tmp_path: Path, put: Callable[..., None]) -> None:
    put("kinetics_200_val/x/a.webm")
    _write(tmp_path / "annotations" / "kinetics_200" / "k200_val.txt", "x/a.mp4 199\nx/b.mp4 3\n")
    index = _build("omnisource", tmp_path, "val")
    assert (len(index.classes), index[0].label, len(index.skipped)) == (200, 199, 1)


def test_unknown_names_and_splits_show_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'kinetics'"):
        _build("kinetic", tmp_path)
    with pytest.raises(UserError, match="train1"):
        _build("ucf101", tmp_path, "train")
    with pytest.raises(UserError, match=r"classInd\.txt"):
        _build("ucf101", tmp_path, "train1")


def test_labels_outside_the_classes_are_one_line(tmp_path: Path, put: Callable[..., None]) -> None:
    put("rgb/x.webm")
    _write(tmp_path / "Diving48_vocab.json", ["one"])
    _write(tmp_path / "Diving48_V2_train.json", [{"vid_name": "x", "label": 1}])
    with pytest.raises(UserError, match=r"outside 0\.\.0"):
        _build("diving48", tmp_path, "train")


def test_mirrored_classes_are_found_by_their_names() -> None:
    assert mirrored(["from left to right", "still", "from right to left"]) == ((0, 2),)
    assert mirrored(["clockwise", "counter_clockwise", "bright"]) == ((0, 1),)
    assert mirrored(["turning left", "turning back"]) is None
    assert mirrored(["abseiling"]) == ()


SPOILT = [
    ("kinetics", "train", {"kinetics_train.csv": "name,id\na,b\n"}),
    ("ucf101", "train1", {"classInd.txt": "one two three\n", "trainlist01.txt": "a/b.avi 1\n"}),
    ("sthv2", "val", {"labels.json": "[1, 2]", "validation.json": "{}"}),
    ("diving48", "train", {"Diving48_vocab.json": '["a"]', "Diving48_V2_train.json": '[{"name": "x"}]'}),
    ("activitynet", "val", {"activity_net.v1-3.min.json": "[]"}),
    ("hvu", "train", {"HVU_Tags_Categories_V1.0.csv": "a;b\n1;2\n"}),
    ("hmdb51", "test1", {"annotations/run_test_split1.txt": "clip.avi\n"}),
    ("mit", "val", {"moments_categories.txt": "a,0\n", "validationSet.csv": "a/b.mp4\n"}),
]


@pytest.mark.parametrize(("name", "split", "files"), SPOILT, ids=[row[0] for row in SPOILT])
def test_a_foreign_annotation_file_is_told_in_one_line(tmp_path: Path, name: str, split: str, files: dict) -> None:
    for place, text in files.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
    with pytest.raises(UserError, match=rf"{name} {split} differ from the official format"):
        _build(name, tmp_path, split)


def test_no_video_of_several_labels_has_an_unknown_one(tmp_path: Path) -> None:
    """In a multi-hot row, -1 would set the last class."""
    entry = datasets.Entry("a.mp4", (0, -1))
    with pytest.raises(UserError, match=r"a.mp4: label -1 is outside 0\.\.2"):
        datasets.Listing(entries=(entry,), classes=("x", "y", "z"), root=tmp_path, multi_label=True)
