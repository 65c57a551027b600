"""Folders and lists as people have them: links, thumbnails, names that are not UTF-8, what is passed over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.pipelines import check, datasets
from reelbench.pipelines._encode import encode
from reelbench.pipelines.index import Index
from reelbench.spec import Clip

JPEG = b"\xff\xd8\xff\xd9"


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """Write a short video to each of these places below `tmp_path`."""
    clip = tmp_path / "clip.webm"
    encode(clip, np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8), codec="vp9", fps=5, gop=5)

    def copy(*names: str | bytes) -> None:
        for name in names:
            place = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copy(clip, place)

    return copy


def build(name: str, root: Path, split: str = "all") -> tuple[Index, list[str]]:
    notes: list[str] = []
    return datasets.build_index(name, root, split, workers=0, progress=False, report=notes.append), notes


def names(index: Index) -> list[str]:
    return index.table["path"].tolist()


def test_a_picture_beside_videos_is_a_thumbnail(tmp_path: Path, put: Callable[..., None]) -> None:
    put("set/run/a.webm", "set/run/p1/b.webm", "set/run/1/c.webm")
    for place in ("a.jpg", "p1/00001.jpg", "00001.jpg", "1/cover.jpeg"):
        (tmp_path / "set/run" / place).write_bytes(JPEG)
    index, notes = build("folder", tmp_path / "set")
    assert names(index) == ["run/1/c.webm", "run/a.webm", "run/p1/b.webm"]
    assert notes == ["passed over by their suffix: 3 .jpg, 1 .jpeg"]


def test_what_has_another_suffix_is_counted(tmp_path: Path, put: Callable[..., None]) -> None:
    kinds = ("MTS", "m2ts", "vob", "ogv", "gif", "asf", "m2v", "3g2", "f4v", "mxf", "dv", "divx")
    put(*(f"set/run/a.{kind}" for kind in kinds), "set/run/notes.txt", "set/run/none", "set/list.csv")
    index, notes = build("folder", tmp_path / "set")
    assert len(index) == len(kinds)
    assert notes == ["passed over by their suffix: 1 without one, 1 .txt, 1 .csv beside the class folders"]


def test_folders_of_systems_and_hidden_ones_are_no_classes(tmp_path: Path, put: Callable[..., None]) -> None:
    put("set/run/a.webm", "set/__MACOSX/run/._a.webm", "set/@eaDir/a.webm", "set/lost+found/a.webm", "set/.git/a.webm",
        "set/run/@eaDir/a.webm/SYNOVIDEO_1.mp4")  # fmt: skip
    index, _ = build("folder", tmp_path / "set")
    assert (index.classes, names(index)) == (("run",), ["run/a.webm"])


@pytest.mark.parametrize("target", ["..", "../..", "."])
def test_a_link_that_leads_back_is_not_followed(tmp_path: Path, put: Callable[..., None], target: str) -> None:
    put("set/run/a.webm", "elsewhere/b.webm")
    (tmp_path / "set/run/loop").symlink_to(target)
    (tmp_path / "set/run/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "set/run")
    index, _ = build("folder", tmp_path / "set")
    assert names(index) == ["run/a.webm", "run/more/b.webm"]


def test_a_link_to_nothing_is_told(tmp_path: Path, put: Callable[..., None]) -> None:
    put("set/run/a.webm")
    (tmp_path / "set/run/b.webm").symlink_to(tmp_path / "gone.webm")
    index, _ = build("folder", tmp_path / "set")
    assert [(Path(path).name, reason) for path, reason in index.skipped] == [("b.webm", "a link to nothing")]
    assert index.listed == 2


def test_splits_are_no_classes(tmp_path: Path, put: Callable[..., None]) -> None:
    put("set/train/run/a.webm", "set/val/run/b.webm")
    with pytest.raises(UserError, match="train, val are splits and no classes: choose one with --split train"):
        build("folder", tmp_path / "set")
    assert build("folder", tmp_path / "set", "train")[0].classes == ("run",)


@pytest.mark.parametrize("where", ["out/i.parquet", "set/i.parquet"])
def test_an_index_may_be_written_through_a_link(tmp_path: Path, put: Callable[..., None], where: str) -> None:
    put("set/run/a.webm")
    (tmp_path / "disk/deep").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk/deep")
    index, _ = build("folder", tmp_path / "set")
    index.save(tmp_path / where)
    assert Index.load(tmp_path / where)[0].path == tmp_path / "set/run/a.webm"
    assert not check.check(tmp_path / where, workers=0, progress=False)


def test_names_that_are_not_utf_8_are_kept(tmp_path: Path, put: Callable[..., None]) -> None:
    put(b"set/caf\xe9/cr\xe8me.webm", "set/b/x.webm")
    index, _ = build("folder", tmp_path / "set")
    index.save(tmp_path / "i.parquet")
    loaded = Index.load(tmp_path / "i.parquet")
    assert loaded.classes == ("b", "caf\\udce9")
    assert os.fsencode(loaded[1].path).endswith(b"/caf\xe9/cr\xe8me.webm")
    assert loaded.fingerprint == index.fingerprint
    clip = Clip(frames=2, size=32, short_side=32)
    for decoder in pipelines.decoders(loaded, "cpu"):
        with pipelines.open(loaded, clip=clip, batch=2, decoder=decoder, workers=1) as stream:
            assert sum(len(batch.clip) for batch in stream.epoch()) == 2
    loaded[1].path.write_bytes(b"damaged")
    [problem] = check.check(tmp_path / "i.parquet", workers=0, progress=False)
    assert problem.path == loaded[1].path
    assert len(Index.load(tmp_path / "i.parquet")) == 1


def test_a_list_may_name_files_that_are_not_utf_8(tmp_path: Path, put: Callable[..., None]) -> None:
    put(b"caf\xe9.webm")
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.webm 0\n")
    assert len(build("filelist", tmp_path / "list.txt")[0]) == 1


def test_the_official_names_of_hmdb51_are_no_comments(tmp_path: Path, put: Callable[..., None]) -> None:
    put("videos/clap/#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/clap_test_split1.txt").write_text("#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi 1 \n")
    assert names(build("hmdb51", tmp_path, "train1")[0]) == ["videos/clap/#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi"]


@pytest.mark.parametrize(
    ("header", "row", "frames"),
    [
        ("start,end", "0.2,0.8", (1, 3)),
        ("start_time,end_time", "0.2,0.8", (1, 3)),
        ("Time Start,Time-End", "0.2,", (1, 5)),
        ("start_frame,end_frame", "1,4", (1, 3)),
    ],
)
def test_spans_have_several_names(tmp_path: Path, put: Callable[..., None], header: str, row: str, frames) -> None:
    put("a.webm")
    (tmp_path / "l.csv").write_text(f"path,label,{header}\na.webm,run,{row}\n")
    index, notes = build("csv", tmp_path / "l.csv")
    assert (index[0].offset, index[0].frames) == frames
    assert ("start_time as start" in str(notes)) == ("start_time" in header)


def test_a_wrong_root_is_hinted_at(tmp_path: Path, put: Callable[..., None]) -> None:
    put("videos/run/a.webm")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/l.txt").write_text("run/a.webm 0\n")
    with pytest.raises(UserError, match=rf": did you mean {tmp_path}/videos\? Paths are relative to {tmp_path}/lists"):
        build("filelist", tmp_path / "lists/l.txt")


def test_a_check_in_a_read_only_place_still_tells_the_problems(
    tmp_path: Path, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("set/run/a.webm")
    build("folder", tmp_path / "set")[0].save(tmp_path / "i.parquet")
    (tmp_path / "set/run/a.webm").write_bytes(b"x")

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)  # root may write everywhere
    told: list[check.Problem] = []
    with pytest.raises(UserError, match=r"i.quarantine.json: cannot be written \(Permission denied\)"):
        check.check(tmp_path / "i.parquet", workers=0, progress=False, report=told.append)
    assert [problem.path.name for problem in told] == ["a.webm"]
