"""What the workers know of the files, in memory that all of them share, and the one way to a file's bytes.

    workers   [ ] [ ] [ ] [ ]      each maps the same pages: the frame times of Kinetics-400 alone are 0.5 GiB
                 |   |   |   |
    memory    | paths | sizes | hashes | … | pts | key frames |

A file is compared with the index before anything is made of it: flipped bytes often decode to wrong pixels in silence.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from . import _frames

# A larger file is not read whole: only the packets of the groups of pictures that are needed.
LARGE = 64 << 20
BLOCK = 1 << 20
ALIGNED = 8


class Broken(Exception):  # noqa: N818 (a finding about one file, answered with another file)
    """A file is not the one that was indexed, or cannot be decoded; the message is the reason, without the path."""


class Shared:
    """Named arrays in anonymous shared memory: pickled as an address, mapped on arrival, freed with the last user."""

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
        names = ("size", "frames", "offset", "stream", "width", "height", "rotation")
        columns = {name: table[name].to_numpy() for name in names}
        paths = [os.fsencode(index.root / path) for path in table["path"]]
        self._columns = Shared(
            columns
            | {"path": np.frombuffer(b"".join(paths), np.uint8), "path_ends": np.cumsum([len(p) for p in paths])}
            | {name: np.array(table[name].tolist(), dtype=np.bytes_) for name in ("hash", "codec", "color_matrix")}
            | dict(zip(("pts", "pts_ends"), flat(table["pts"]), strict=True))
            | dict(zip(("keys", "key_ends"), flat(table["key_frames"]), strict=True))
            | dict(zip(("labels", "label_ends"), flat(table["label"]), strict=True))
        )
        self._verified: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._columns["size"])

    def path(self, row: int) -> Path:
        """Return where a file, or a folder of frames, lies."""
        return Path(os.fsdecode(self._part("path", "path_ends", row).tobytes()))

    def size(self, row: int) -> tuple[int, int]:
        """Return the (width, height) of the picture as it is shown, upright."""
        width, height = self.coded_size(row)
        return (height, width) if self.rotation(row) % 180 else (width, height)

    def coded_size(self, row: int) -> tuple[int, int]:
        """Return the (width, height) of the picture as it is stored."""
        return int(self._columns["width"][row]), int(self._columns["height"][row])

    def rotation(self, row: int) -> int:
        """Return by how many degrees clockwise the stored picture is turned to be shown."""
        return int(self._columns["rotation"][row])

    def color_matrix(self, row: int) -> str:
        """Return FFmpeg's name of the matrix that the pictures' colors are tagged with."""
        return self._columns["color_matrix"][row].decode()

    def frames(self, row: int) -> int:
        """Return the number of frames of the video."""
        return int(self._columns["frames"][row])

    def offset(self, row: int) -> int:
        """Return the file's frame that is the video's first."""
        return int(self._columns["offset"][row])

    def stream(self, row: int) -> int:
        """Return the number of the video's stream in the container."""
        return int(self._columns["stream"][row])

    def times(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a file's (pts, key frames)."""
        return self._part("pts", "pts_ends", row), self._part("keys", "key_ends", row)

    def labels(self, row: int) -> np.ndarray:
        """Return a video's class numbers: one, or in a multi-label set any number of them."""
        return self._part("labels", "label_ends", row)

    def is_folder(self, row: int) -> bool:
        """Whether the video is a folder of frames."""
        return bool(self._columns["codec"][row] == b"frames")

    def is_large(self, row: int) -> bool:
        """Whether the file is too large to be read whole."""
        return bool(self._columns["size"][row] > LARGE) and not self.is_folder(row)

    def fetch(self, row: int, wanted: np.ndarray) -> tuple[np.ndarray | Path, np.ndarray]:
        """Return a verified file and the numbers of the wanted frames in it (int32).

        It is the file's bytes, a large file's path, or an MJPEG file of just these frames of a folder. A file that is
        not the one that was indexed is `Broken`.
        """
        path = self.path(row)
        try:
            if self.is_folder(row):
                return self._folder(path, row, wanted), np.arange(len(wanted), dtype=np.int32)
            if path.stat().st_size != self._columns["size"][row]:
                raise Broken("changed since it was indexed")
            if self.is_large(row):
                self._verify_once(path, row)
                return path, wanted
            content = np.fromfile(path, dtype=np.uint8)
        except OSError as error:
            raise Broken(error.strerror or str(error)) from None
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
        """Read a large file whole when it is first used, and again only after it was written to."""
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
            raise Broken("changed since it was indexed")

    def _part(self, values: str, ends: str, row: int) -> np.ndarray:
        last = self._columns[ends]
        return self._columns[values][last[row - 1] if row else 0 : last[row]]


def flat(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a column of lists end to end, and where each list ends."""
    import pyarrow as pa

    lists = pa.array(column)
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    return lists.flatten().to_numpy(), np.cumsum(lists.value_lengths().to_numpy())
