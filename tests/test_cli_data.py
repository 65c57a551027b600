"""A careless user at the `data` verbs: every mistake ends in one line that says what to do, or works after all."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from reelbench.pipelines import datasets, synthetic, transcode
from reelbench.pipelines.index import METADATA, Index


@pytest.fixture
def data(reelbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run `reelbench data …` in this process; return its exit code and all that it printed."""
    monkeypatch.setenv("REELBENCH_CACHE", str(tmp_path / "cache"))

    def command(*arguments: object) -> tuple[int, str]:
        code, out, err = reelbench("data", *arguments)
        return code, out + err

    return command


@pytest.fixture
def clips(tiny_index: Index, tmp_path: Path) -> Path:
    """A folder of three videos with awkward names."""
    folder = tmp_path / "my clips"
    folder.mkdir()
    for name in ("a b.webm", "ü – 走る.webm", "c.webm"):
        shutil.copy(tiny_index[0].path, folder / name)
    return folder


@pytest.mark.parametrize(("options", "classes", "frames"), [((), 8, 16), (("--hard",), 16, 32)])
def test_either_embedded_set_is_made_where_one_wants_it(data, tmp_path: Path, options, classes, frames) -> None:
    code, printed = data("synth", tmp_path, *options, "--train", 2, "--val", 0, "--test", 1)
    assert code == 0, printed
    made = [Index.load(tmp_path / f"{split}.parquet") for split in ("train", "val", "test")]
    assert [len(index) for index in made] == [2, 0, 1]
    assert {len(index.classes) for index in made} == {classes}
    assert made[0][0].frames == frames


def test_an_embedded_set_has_its_own_number_of_videos(data, tmp_path: Path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(synthetic, "make", lambda out, **options: asked.append(options) or {})
    assert [data("synth", tmp_path, *more)[0] for more in ((), ("--hard",), ("--hard", "--val", 7))] == [0, 0, 0]
    assert [options["videos"] for options in asked] == [(3200, 240, 400), (3840, 480, 960), (3840, 7, 960)]


LISTS = [
    ("csv", b"path,label\r\na b.webm,1\r\n\xc3\xbc \xe2\x80\x93 \xe8\xb5\xb0\xe3\x82\x8b.webm,0\r\n", "2 videos of 2"),
    ("csv", b"\xef\xbb\xbfpath, label\nc.webm, 1\n", "1 videos of 1 listed, 0 skipped, 2 classes"),
    ("csv", b"path,label\nc.webm,0\na b.webm,7\n", "2 videos of 2 listed, 0 skipped, 8 classes"),
    ("csv", b"path,label\nc.webm,1\nc.webm,1\n", "1 of the videos are listed more than once"),
    ("csv", b"path,label\nc.webm,-1\na b.webm,2\n", "2 videos of 2 listed, 0 skipped, 3 classes"),
    ("filelist", b"a b.webm 1\r\nc.webm -1\r\n", "2 videos of 2 listed, 0 skipped, 2 classes"),
    ("filelist", b"a b.webm 1\nc.webm\n", "1 videos have no label (-1)"),
    ("filelist", b"# path label\nc.webm 0\n#no_comment.webm 0\n", "1 videos of 2 listed, 1 skipped"),
    ("csv", "path,label\nc.webm,1\n".encode("utf-16"), "1 videos of 1 listed"),
    ("csv", b"path;label\na b.webm;run\n", "1 videos of 1 listed"),
    ("csv", b"Video Path\tClass-Name\tfps\na b.webm\trun\t25\n", "columns not used: fps"),
    ("csv", b"path,label\n.\\c.webm,run\n", "1 videos of 1 listed"),
]


@pytest.mark.parametrize(("kind", "content", "said"), LISTS)
def test_lists_as_people_have_them_are_read(data, clips: Path, kind: str, content: bytes, said: str) -> None:
    (clips / "list.txt").write_bytes(content)
    code, printed = data("index", kind, clips / "list.txt", "--to", clips / "i.parquet")
    assert (code, said in printed) == (0, True), printed
    assert len(Index.load(clips / "i.parquet"))


MISTAKES = [
    ("csv", b"PAR1\x00\x15\x04", "holds zero bytes, so it is no text"),
    ("csv", b"path,label\na, b.webm,run\n", "has more cells than the header"),
    ("csv", b"c.webm 1\n", "`data index filelist`"),
    ("filelist", b"c.webm,1\n", "commas between path and label: `data index csv`"),
    ("csv", b"path,label\nc.webm,-2\n", "label -2: labels are whole numbers from 0"),
    ("csv", b"path,label\nc.webm,1.0\n", "label 1.0: labels are whole numbers from 0"),
    ("csv", b"path,label\nc.webm,99999999999\n", "label 99999999999: classes are numbered from 0, up to"),
    ("csv", b"", "columns none"),
    ("csv", b"path,label,start,end\nc.webm,1,900,\n", "none of 1 listed videos can be used"),
    ("filelist", b"", "none of the 0 listed videos"),
    ("filelist", b"folder 0 1\n", "0 frames from 0 on are none"),
    ("folder", b"", "a file, not a folder"),
]


@pytest.mark.parametrize(("kind", "content", "said"), MISTAKES)
def test_a_list_that_cannot_be_meant_is_told_in_one_line(
    data, clips: Path, kind: str, content: bytes, said: str
) -> None:
    (clips / "list.txt").write_bytes(content)
    code, printed = data("index", kind, clips / "list.txt", "--to", clips / "i.parquet")
    assert (code, said in printed) == (2, True), printed
    assert not (clips / "i.parquet").exists()


def test_a_place_that_cannot_be_written_is_told_before_the_work(data, clips: Path, tiny_synthetic, tmp_path) -> None:
    inside = clips / "c.webm" / "i.parquet"
    for line in (
        ("index", "folder", clips, "--to", inside),
        ("index", "folder", clips, "--to", tmp_path),
        ("synth", clips / "c.webm"),
        ("transcode", tiny_synthetic["val"], clips / "c.webm"),
        ("show", tiny_synthetic["val"], "--model", "tsm/micro", "--to", clips / "c.webm" / "x.png"),
    ):
        code, printed = data(*line)
        assert code == 2, printed
        assert "cannot be written" in printed or "is a folder" in printed
        assert len(printed.splitlines()) == 1


def foreign(index: Path) -> None:
    index.write_text("no Parquet")


def cut(index: Path) -> None:
    index.write_bytes(index.read_bytes()[:-50])


def newer(index: Path) -> None:
    table = pq.read_table(index)
    facts = json.loads(table.schema.metadata[METADATA]) | {"version": 99}
    pq.write_table(table.replace_schema_metadata({METADATA: json.dumps(facts)}), index)


def lacking(index: Path) -> None:
    table = pq.read_table(index)
    pq.write_table(table.drop(["hash"]).replace_schema_metadata(table.schema.metadata), index)


def emptied(index: Path) -> None:
    whole = Index.load(index)
    dataclasses.replace(whole, table=whole.table.iloc[:0]).save(index)


def unlisted(index: Path) -> None:
    index.with_suffix(".quarantine.json").write_text("[{")


def folder(index: Path) -> None:
    index.unlink()
    index.mkdir()


SPOILT = [
    (foreign, "not a Parquet file"),
    (cut, "not a Parquet file"),
    (newer, "version 99"),
    (lacking, "lacks hash: index the data again"),
    (emptied, "holds no videos"),
    (unlisted, "cannot be read: make it again with `reelbench data check"),
    (folder, "a folder: name the index file in it"),
    (Path.unlink, "no such file: make one with"),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILT, ids=lambda v: getattr(v, "__name__", ""))
def test_a_spoilt_index_is_told_by_every_verb(data, tiny_synthetic, tmp_path: Path, spoil, said: str) -> None:
    shutil.copytree(tiny_synthetic["val"].parent, tmp_path / "set")
    index = tmp_path / "set" / "val.parquet"
    spoil(index)
    lines = [("bench", index), ("transcode", index, tmp_path / "o"), ("certify", index)]
    lines += [("show", index, "--model", "tsm/micro", "--to", tmp_path / "x.png")]
    lines += [] if spoil in (emptied, unlisted) else [("check", index)]
    for line in lines:
        code, printed = data(*line)
        assert (code, said in printed, len(printed.splitlines())) == (2, True, 1), printed


def test_an_index_whose_files_moved_is_refused_and_not_quarantined(data, tiny_synthetic, tmp_path: Path) -> None:
    moved = tmp_path / "val.parquet"
    shutil.copy(tiny_synthetic["val"], moved)
    code, printed = data("check", moved)
    assert (code, "none of the 8 files of val.parquet is there" in printed) == (2, True)
    assert len(Index.load(moved)) == 8
    code, printed = data("transcode", moved, tmp_path / "out")
    assert (code, "moved or changed since it was indexed" in printed) == (2, True)


def test_transcoding_spares_its_source_and_goes_on_after_an_interruption(
    data, tiny_synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_synthetic["val"].parent, tmp_path / "set")
    index, out = tmp_path / "set" / "val.parquet", tmp_path / "out"
    before = index.read_bytes()
    code, printed = data("transcode", index, index.parent)
    assert (code, "choose another folder for the copy" in printed) == (2, True)
    assert index.read_bytes() == before

    def interrupted(job, done=[]):  # noqa: B006 (counts the calls)
        done.append(job)
        if len(done) > 3:
            raise KeyboardInterrupt
        return real(job)

    real = transcode._transcode
    with monkeypatch.context() as patch:
        patch.setattr(transcode, "_transcode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transcode.transcode(index, out, codec="vp9", workers=1, progress=False)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.webm")}
    assert len(written) == 3
    made = transcode.transcode(index, out, codec="vp9", workers=1, progress=False)
    assert len(made) == 8
    assert {path: path.stat().st_mtime_ns for path in written} == written
    (out / "transcode.json").write_text("{")
    code, printed = data("transcode", index, out, "--codec", "vp9")
    assert (code, "choose another folder" in printed) == (2, True)


def test_an_interruption_says_how_to_go_on(data, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> Index:
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "build_index", interrupted)
    code, printed = data("index", "folder", clips)
    assert (code, "interrupted; finished work is kept" in printed) == (130, True)
