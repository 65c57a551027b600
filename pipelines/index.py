"""The data set index: the facts of every video, one row each, in one Parquet file. Paths are relative to its root.

    index = build([("left/0001.webm", 0), …], ("left", "right"), root)
    index.save("train.parquet")
    video = Index.load("train.parquet")[0]

The Parquet metadata hold the version, the root, the classes, the fingerprint, and the files that were skipped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError, printable
from . import _frames, _parallel
from ._colors import UNKNOWN
from ._files import flat
from ._mirror import mirrored
from ._quarantine import quarantined
from ._scan import file_hash, scan
from ._video import SQUARE, Label, SkippedVideo, Span, UnreadableVideo, Video, reason, trim

__all__ = [
    "Entry",
    "Index",
    "SkippedVideo",
    "Span",
    "UnreadableVideo",
    "Video",
    "build",
    "file_hash",
    "mirrored",
    "scan",
]

VERSION = 1
METADATA = b"reelbench"
FACTS = {"root", "classes", "rejected", "multi_label", "metric", "mirror"}  # "rejected" holds `Index.skipped`

SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "label": pa.list_(pa.int32()),
        "frames": pa.int32(),
        "offset": pa.int32(),
        "pts": pa.list_(pa.int64()),
        "time_base": pa.string(),
        "key_frames": pa.list_(pa.int32()),
        "width": pa.int32(),
        "height": pa.int32(),
        "codec": pa.string(),
        "profile": pa.string(),
        "pix_fmt": pa.string(),
        "duration": pa.float64(),
        "size": pa.int64(),
        "hash": pa.string(),
        "rotation": pa.int32(),
        "flipped": pa.bool_(),
        "pixel_aspect": pa.string(),
        "stream": pa.int32(),
        "hidden": pa.int32(),
        "coded_width": pa.int32(),
        "coded_height": pa.int32(),
        "color_matrix": pa.string(),
        "color_range": pa.string(),
        "packets": pa.list_(pa.int32()),
        "changes": pa.bool_(),
        "sited": pa.bool_(),
        "group": pa.string(),
    }
)
LISTS = ("label", "pts", "key_frames", "packets")
# Columns that index files of older versions lack, and the values for them.
LATER: dict[str, int | str | list[int]] = {
    "coded_width": 0, "coded_height": 0, "color_matrix": UNKNOWN, "color_range": UNKNOWN, "flipped": False,
    "pixel_aspect": SQUARE, "packets": [], "changes": False, "sited": False,
    "group": "",
}  # fmt: skip


class Entry(NamedTuple):
    """A file to index: its path, its label, the span that belongs to the video (None: the whole file), its `group`."""

    path: Path | str
    label: Label
    span: Span | None = None
    group: str = ""


@dataclass(frozen=True, eq=False)
class Index:
    """The videos of a data set in a fixed order. `table` has one row per video, with the columns of `SCHEMA`.

    Its paths are relative to `root`, its labels always lists; `index[row]` is a `Video`, with absolute path.

    `skipped` lists the files that could not be indexed, or are quarantined. `multi_label`: labels are tuples. `metric`
    is the data set's usual one: `topk`, `mean_class`, `map` (mAP over classes), `map_by_video`, `map_by_category`.
    `mirror` lists the pairs of classes that a horizontal flip swaps; None if a flip makes some label wrong.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    root: Path
    skipped: tuple[SkippedVideo, ...] = ()
    multi_label: bool = False
    metric: str = "topk"
    mirror: tuple[tuple[int, int], ...] | None = ()

    @classmethod
    def load(cls, path: Path | str, *, quarantined_too: bool = False) -> Index:
        """Read an index file. Videos that `reelbench data check` has quarantined are moved to `skipped`.

        With `quarantined_too` they stay, and the quarantine list is not read. Raises UserError if the file is missing,
        no index, or of another version, or its quarantine list is damaged.
        """
        path = Path(path)
        index = cls._read(path)
        quarantine = {} if quarantined_too else quarantined(path)
        keys = list(zip(index.table["path"], index.table["hash"], strict=True))
        out = np.array([key in quarantine for key in keys], dtype=bool)
        if not out.any():
            return index
        skipped = tuple(SkippedVideo(key[0], quarantine[key]) for key, bad in zip(keys, out, strict=True) if bad)
        table = index.table[~out].reset_index(drop=True)
        return dataclasses.replace(index, table=table, skipped=index.skipped + skipped)

    @classmethod
    def _read(cls, path: Path) -> Index:
        if not path.is_file():
            remedies = "no such file: make one with `reelbench data index`", "a folder: name the index file in it"
            raise UserError(f"index {path}: {remedies[path.is_dir()]}")
        try:
            table = pq.read_table(path)
        except pa.ArrowInvalid:
            raise UserError(f"index {path}: not a Parquet file: make it again with `reelbench data index`") from None
        facts = json.loads((table.schema.metadata or {}).get(METADATA, b"{}"))
        if facts.get("version") != VERSION:
            raise UserError(
                f"index {path}: version {facts.get('version')}, this ReelBench reads {VERSION}: index the data again"
            )
        for name in LATER.keys() - set(table.column_names):
            value = pa.scalar(LATER[name], SCHEMA.field(name).type)
            table = table.append_column(name, pa.repeat(value, len(table)))
        if lacking := sorted((set(SCHEMA.names) - set(table.column_names)) | (FACTS - set(facts))):
            raise UserError(f"index {path}: lacks {', '.join(lacking)}: index the data again")
        paths = table["path"].to_pylist()
        for row, name in facts.get("odd_paths", ()):
            paths[row] = name
        return cls(
            table=_frame(table.select(SCHEMA.names), paths),
            classes=tuple(facts["classes"]),
            root=(path.parent.resolve() / facts["root"]).resolve(),
            skipped=tuple(SkippedVideo(p, reason) for p, reason in facts["rejected"]),
            multi_label=facts["multi_label"],
            metric=facts["metric"],
            mirror=None if facts["mirror"] is None else tuple((a, b) for a, b in facts["mirror"]),
        )

    def save(self, path: Path | str) -> None:
        """Write the index file atomically. Raises UserError if it cannot be written.

        The root is stored relative to the file, so that a folder of index and videos can be moved. A path that is not
        UTF-8 is written with escapes, and as it is among the metadata.
        """
        path = Path(path)
        writable(path)
        shown = [printable(name) for name in self.table["path"]]
        facts = {
            "version": VERSION,
            "root": _relative(self.root, path.parent),
            "odd_paths": [(row, name) for row, name in enumerate(self.table["path"]) if name != shown[row]],
            "classes": self.classes,
            "rejected": self.skipped,
            "multi_label": self.multi_label,
            "metric": self.metric,
            "mirror": self.mirror,
            "fingerprint": self.fingerprint,
        }
        table = pa.Table.from_pandas(self.table.assign(path=shown), schema=SCHEMA, preserve_index=False)
        table = table.replace_schema_metadata({METADATA: json.dumps(facts)})
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        pq.write_table(table, partial, compression="zstd")
        os.replace(partial, path)

    @property
    def fingerprint(self) -> str:
        """A hash (16 hexadecimal digits) of the classes, and of contents, labels, spans and order of the videos."""
        digest = hashlib.blake2b(json.dumps([self.classes, self.multi_label]).encode(), digest_size=8)
        columns = (self.table[name] for name in ("hash", "label", "offset", "frames"))
        for content, label, offset, frames in zip(*columns, strict=True):
            digest.update(f"{content} {list(label)} {offset} {frames}\n".encode())
        return digest.hexdigest()

    @property
    def groups(self) -> tuple[str, ...]:
        """What each video was cut from: its group, else its file's contents. Videos of one are not independent."""
        columns = (self.table[name] for name in ("group", "hash"))
        return tuple(group or content for group, content in zip(*columns, strict=True))

    @property
    def listed(self) -> int:
        """Number of videos that the data set lists, skipped and missing ones included."""
        return len(self.table) + len(self.skipped)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, position: int) -> Video:
        return next(self._videos(self.table.iloc[[position]]))

    def videos(self) -> Iterator[Video]:
        """Yield the videos in order."""
        return self._videos(self.table)

    def _videos(self, table: pd.DataFrame) -> Iterator[Video]:
        """Yield the videos of some rows; each column is converted once, as a cell at a time takes 1 ms a video."""
        columns: dict[str, list[Any]] = {name: _cells(table, name) for name in SCHEMA.names}
        bases = {text: Fraction(text) for text in set(columns["time_base"])}
        for cells in zip(*columns.values(), strict=True):
            row: dict[str, Any] = dict(zip(columns, cells, strict=True))
            label = tuple(row["label"].tolist())
            row["path"], row["time_base"] = self.root / row["path"], bases[row["time_base"]]
            yield Video(**{**row, "label": label if self.multi_label else label[0]})

    def verify(self) -> None:
        """Check that the files are there. Raises UserError if half of them or more are missing or have another size.

        With fewer a run can start: each such file is skipped as an unreadable video (see `Stream.skipped`).
        """
        changed = self.changed()
        if changed and 2 * len(changed) >= len(self):
            raise UserError(
                f"{changed[0]}: moved or changed since it was indexed ({len(changed)} of {len(self)} files): "
                "put the files back, leave them out with `reelbench data check`, or index the data again"
            )

    def check_labels(self, *, unlabeled: bool = False) -> None:
        """Check that every label is a class. Raises UserError, naming the first video whose label is not.

        With `unlabeled`, a video of a set with one label each may have none (-1).
        """
        least = -1 if unlabeled and not self.multi_label else 0
        for path, labels in zip(self.table["path"], self.table["label"], strict=True):
            for label in labels:
                if not least <= label < len(self.classes):
                    raise UserError(
                        f"{self.root / path}: label {label} is none of the {len(self.classes)} classes (from 0): "
                        "correct the list of videos and index it again"
                    )

    def changed(self, *, contents: bool = False) -> tuple[Path, ...]:
        """Return the files that are missing or whose size has changed; with `contents`, also whose hash has."""
        rows = zip(*(self.table[name] for name in ("path", "codec", "size", "hash")), strict=True)
        return tuple(
            self.root / path
            for path, codec, size, digest in rows
            if not _unchanged(self.root / path, codec, size, digest if contents else None)
        )


def _relative(root: Path, folder: Path) -> str:
    """Return the root relative to a folder. Where that goes upwards, links are resolved first: `..` ignores them."""
    direct = os.path.relpath(root, folder.absolute())
    upwards = direct.split(os.sep, 1)[0] == os.pardir
    return os.path.relpath(root.resolve(), folder.resolve()) if upwards else direct


def _frame(table: pa.Table, paths: list[str]) -> pd.DataFrame:
    """Return an index's table with these paths, as Python's strings: they may hold what is not UTF-8."""
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame.assign(path=pd.Series(paths, index=frame.index, dtype=object))


def _cells(table: pd.DataFrame, name: str) -> list[Any]:
    """Return the cells of a column as Python's values, those of `LISTS` as arrays."""
    if name not in LISTS:
        return table[name].to_numpy().tolist()
    values, ends = flat(table[name])
    return [values[first:last] for first, last in itertools.pairwise((0, *ends.tolist()))]


def _unchanged(path: Path, codec: str, size: int, digest: str | None) -> bool:
    try:
        if codec == "frames":
            now = sum(file.stat().st_size for file in _frames.files(path))
            return now == size and (digest is None or _frames.scan(path).hash == digest)
        return path.stat().st_size == size and (digest is None or file_hash(path) == digest)
    except (OSError, UnreadableVideo):
        return False


def writable(path: Path) -> None:
    """Create a file's folder, and raise UserError if the file cannot be written there: before hours of work, not after.

    The file itself is not made.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder: name the file to write in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}: choose another place") from None


def build(
    entries: Iterable[Entry | tuple[Path | str, Label]],
    classes: Sequence[str],
    root: Path | str,
    *,
    multi_label: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Index:
    """Scan files into an index, in the order of `entries`, in parallel processes.

    Entries are `Entry` or (path, label); paths are absolute or relative to `root`. An unreadable file is listed in
    `skipped` with the reason. With `multi_label` labels are tuples. `metric` and `mirror` keep their defaults, so that
    a flip swaps no labels: set them with `dataclasses.replace` (see `mirrored`). `workers` defaults to the number of
    cores; fewer than 2 scan in this process.
    """
    root = Path(root).absolute()
    files = [entry if isinstance(entry, Entry) else Entry(*entry) for entry in entries]
    files = [entry._replace(path=root / entry.path) for entry in files]
    videos: list[Video] = []
    skipped: list[SkippedVideo] = []
    found = _parallel.ordered(_scan_one, files, crashed=_crashed, title="indexing", workers=workers, progress=progress)
    for entry, video in zip(files, found, strict=True):
        if isinstance(video, Video):
            videos.append(video)
        else:
            skipped.append(SkippedVideo(os.path.relpath(entry.path, root), video))
    return from_videos(videos, classes, root, skipped=skipped, multi_label=multi_label)


def from_videos(
    videos: Iterable[Video],
    classes: Sequence[str],
    root: Path | str,
    *,
    skipped: Iterable[SkippedVideo] = (),
    multi_label: bool = False,
) -> Index:
    """Make an index of videos that are scanned already, with absolute paths; `metric` and `mirror` as in `build`."""
    root = Path(root).absolute()
    rows = [_row(video, root) for video in videos]
    paths = [row.pop("path") for row in rows]
    return Index(
        table=_frame(pa.Table.from_pylist(rows, schema=SCHEMA), paths),
        classes=tuple(classes),
        root=root,
        skipped=tuple(skipped),
        multi_label=multi_label,
    )


def _row(video: Video, root: Path) -> dict[str, Any]:
    row = {field.name: getattr(video, field.name) for field in dataclasses.fields(video)}
    label = video.label if isinstance(video.label, tuple) else (video.label,)
    path = Path(os.path.relpath(video.path, root)).as_posix()
    return {**row, "path": path, "label": label, "time_base": str(video.time_base)}


def _scan_one(entry: Entry) -> Video | str:
    try:
        video = dataclasses.replace(scan(entry.path, entry.label), group=entry.group)
        return video if entry.span is None else trim(video, entry.span)
    except Exception as error:  # noqa: BLE001 (whatever a file does to a library costs that file, not the index)
        return reason(error)


def _crashed(entry: Entry) -> str:
    return "crashes or hangs the demuxer"
