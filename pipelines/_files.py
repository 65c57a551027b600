"""The index columns that workers need, in memory shared by all of them, and reading a file's bytes.

    workers   [ ] [ ] [ ] [ ]      each maps the same pages: the frame times of Kinetics-400 alone are 0.5 GiB
                 |   |   |   |
    memory    | paths | sizes | hashes | … | pts | key frames |

A file's hash is checked before it is decoded: flipped bytes often decode to wrong pixels without an error.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from . import _cropping, _frames
from ._video import UnreadableVideo

LARGE = 64 << 20  # bytes; of a larger file, only the packets that the frames need are read
BLOCK = 1 << 20
ALIGNED = 8


class SharedArrays:
    """Named arrays in anonymous shared memory, read-only. Pickled as a path, mapped again on arrival, freed after use.

    The process that made them must live and hold them until the others have unpickled them.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        descriptor = os.memfd_create("reelbench")
        weakref.finalize(self, os.close, descriptor)
        self.address = f"/proc/{os.getpid()}/fd/{descriptor}"
        self.places: dict[str, tuple[str, tuple[int, ...], int]] = {}
        with open(descriptor, "wb", closefd=False) as file:
            for name, array in arrays.items():
                self.places[name] = array.dtype.str, array.shape, file.tell()
                file.write(np.ascontiguousarray(array).data)
                file.write(bytes(ALIGNED - file.tell() % ALIGNED))
        self._map()

    def _map(self) -> None:
        with open(self.address, "rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.arrays = {
            name: np.frombuffer(memory, kind, int(np.prod(shape)), offset).reshape(shape)
            for name, (kind, shape, offset) in self.places.items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __getstate__(self) -> tuple[str, dict[str, tuple[str, tuple[int, ...], int]]]:
        return self.address, self.places

    def __setstate__(self, state: tuple[str, dict[str, tuple[str, tuple[int, ...], int]]]) -> None:
        self.address, self.places = state
        self._map()


class Files:
    """The columns of an `Index` that reading and decoding need, by row."""

    def __init__(self, index: Any) -> None:
        table = index.table
        names = ("size", "frames", "offset", "stream", "width", "height", "coded_width", "rotation", "flipped")
        columns = {name: table[name].to_numpy() for name in names}
        paths = [os.fsencode(index.root / path) for path in table["path"]]
        self._columns = SharedArrays(
            columns
            | {"uncropped": _cropping.on_the_right(table)}
            | {"path": np.frombuffer(b"".join(paths), np.uint8), "path_ends": np.cumsum([len(p) for p in paths])}
            | {name: np.array(table[name].tolist(), dtype=np.bytes_) for name in ("hash", "codec", "color_matrix")}
            | dict(zip(("pts", "pts_ends"), flat(table["pts"]), strict=True))
            | dict(zip(("keys", "key_ends"), flat(table["key_frames"]), strict=True))
            | dict(zip(("packets", "packet_ends"), flat(table["packets"]), strict=True))
            | dict(zip(("labels", "label_ends"), flat(table["label"]), strict=True))
        )
        self._verified: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._columns["size"])

    def path(self, row: int) -> Path:
        """Return the path of a file, or of a folder of frames."""
        return Path(os.fsdecode(self._part("path", "path_ends", row).tobytes()))

    def size(self, row: int) -> tuple[int, int]:
        """Return (width, height) after rotation, in pixels."""
        width, height = self.coded_size(row)
        return (height, width) if self.orientation(row)[0] % 180 else (width, height)

    def coded_size(self, row: int) -> tuple[int, int]:
        """Return (width, height) before rotation, in pixels; without the padding that `Video.coded_width` includes."""
        return int(self._columns["width"][row]), int(self._columns["height"][row])

    def uncropped_size(self, row: int) -> tuple[int, int] | None:
        """Return the (width, height) of a video without its cropping, where that is to be removed (see `_cropping`)."""
        whole = int(self._columns["coded_width"][row]), int(self._columns["height"][row])
        return whole if self._columns["uncropped"][row] else None

    def orientation(self, row: int) -> tuple[int, bool]:
        """Return the rotation in degrees clockwise, and whether the frame is mirrored before (see `_orientation`)."""
        return int(self._columns["rotation"][row]), bool(self._columns["flipped"][row])

    def color_matrix(self, row: int) -> str:
        """Return FFmpeg's name of the color matrix that the file is tagged with."""
        return self._columns["color_matrix"][row].decode()

    def frames(self, row: int) -> int:
        """Return the number of frames of the video."""
        return int(self._columns["frames"][row])

    def offset(self, row: int) -> int:
        """Return the file's frame number of the video's first frame."""
        return int(self._columns["offset"][row])

    def stream(self, row: int) -> int:
        """Return the number of the video's stream in the container."""
        return int(self._columns["stream"][row])

    def times(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (pts, key frame numbers) of the whole file, as in `Video`."""
        return self._part("pts", "pts_ends", row), self._part("keys", "key_ends", row)

    def packets(self, row: int) -> np.ndarray:
        """Return each frame's packet, as in `Video`; empty for a plain file."""
        return self._part("packets", "packet_ends", row)

    def labels(self, row: int) -> np.ndarray:
        """Return the class numbers of a video: one (-1: unknown), or any number of them in a multi-label set."""
        return self._part("labels", "label_ends", row)

    def is_folder(self, row: int) -> bool:
        """Whether the video is a folder of frames."""
        return bool(self._columns["codec"][row] == b"frames")

    def is_large(self, row: int) -> bool:
        """Whether the file is too large to be read whole."""
        return bool(self._columns["size"][row] > LARGE) and not self.is_folder(row)

    def fetch(self, row: int, wanted: np.ndarray) -> tuple[np.ndarray | Path, np.ndarray]:
        """Return a file whose hash was checked, and the numbers (int32) in it of the frames `wanted`.

        `wanted` are numbers in the indexed file. The file is its bytes (uint8); for a large file its path; for a folder
        the bytes of an AVI file of the wanted frames alone. Raises UnreadableVideo if the file cannot be read or has
        changed since it was indexed.
        """
        path = self.path(row)
        try:
            if self.is_folder(row):
                return self._folder(path, row, wanted), np.arange(len(wanted), dtype=np.int32)
            if path.stat().st_size != self._columns["size"][row]:
                raise UnreadableVideo("changed since it was indexed")
            if self.is_large(row):
                self._verify_once(path, row)
                return path, wanted
            content = np.fromfile(path, dtype=np.uint8)
        except OSError as error:
            raise UnreadableVideo(error.strerror or str(error)) from None
        self._compare(hashlib.blake2b(content.data, digest_size=16), row)
        return content, wanted

    def _folder(self, path: Path, row: int, wanted: np.ndarray) -> np.ndarray:
        pictures = [file.read_bytes() for file in _frames.files(path)]
        digest = hashlib.blake2b(digest_size=16)
        for picture in pictures:
            digest.update(picture)
        self._compare(digest, row)
        return _frames.remux([pictures[number] for number in wanted])

    def _verify_once(self, path: Path, row: int) -> None:
        """Check the hash of a large file at its first use, and again when its modification time changes."""
        written = path.stat().st_mtime_ns
        if self._verified.get(row) != written:
            digest = hashlib.blake2b(digest_size=16)
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
            self._compare(digest, row)
            self._verified[row] = written

    def _compare(self, digest: hashlib.blake2b, row: int) -> None:
        if digest.hexdigest().encode() != self._columns["hash"][row]:
            raise UnreadableVideo("changed since it was indexed")

    def _part(self, values: str, ends: str, row: int) -> np.ndarray:
        last = self._columns[ends]
        return self._columns[values][last[row - 1] if row else 0 : last[row]]


def flat(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a column of lists, concatenated, and the end of each list in it."""
    import pyarrow as pa

    lists = pa.array(column)
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    return lists.flatten().to_numpy(), np.cumsum(lists.value_lengths().to_numpy())
