"""Resolves a case's `data`: a built-in synthetic set, a folder with an index per split, or one index file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import cache
from ..errors import UserError

SPLITS = ("train", "val", "test")
BUILT_IN = ("synthetic", "synthetic-hard")


@dataclass(frozen=True)
class Data:
    """The index files of a data set's splits; `train` and `val` are optional."""

    test: Path
    train: Path | None = None
    val: Path | None = None


def resolve(data: str, device: str = "cpu") -> Data:
    """Return the splits of a built-in synthetic set (`BUILT_IN`, made on first use), a folder, or an index file.

    A folder holds `test.parquet` and optionally `train.parquet` and `val.parquet`; a single file is the test split.

    A built-in set has the same clips on every `device`, encoded so that the device can decode them. Raises UserError if
    there is no such data, or a folder has no test split.
    """
    if data in BUILT_IN:
        from . import synthetic

        return Data(**synthetic.ensure(cache.folder(), hard=data == "synthetic-hard", device=device))
    path = Path(data)
    if path.is_dir():
        found = {split: path / f"{split}.parquet" for split in SPLITS if (path / f"{split}.parquet").exists()}
        if "test" not in found:
            raise UserError(f"{path} holds no test.parquet: index its videos with `reelbench data index`")
        return Data(**found)
    if not path.exists():
        raise UserError(f"no data '{data}': give an index file, a folder of indexes, or one of {', '.join(BUILT_IN)}")
    return Data(test=path)


def fingerprint(data: Data) -> str:
    """Return the indexes' fingerprints (12 hexadecimal digits each), of the splits that exist, joined by `-`."""
    from .index import Index

    parts = [Index.load(path).fingerprint for path in (data.train, data.val, data.test) if path is not None]
    return "-".join(part[:12] for part in parts)
