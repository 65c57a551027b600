"""What a case's `data` means: the embedded data set, a folder of split indexes, or one index file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError

SPLITS = ("train", "val", "test")
EMBEDDED = ("synthetic", "synthetic-hard")


@dataclass(frozen=True)
class Data:
    """The index files of a data set's splits; `train` and `val` may be missing."""

    test: Path
    train: Path | None = None
    val: Path | None = None


def cache() -> Path:
    """Return the folder for what can be made again: `$REELBENCH_CACHE`, or `~/.cache/reelbench`."""
    from . import _decoder_cache

    return _decoder_cache.cache()


def resolve(data: str, device: str = "cpu") -> Data:
    """Return the splits behind a name: an `EMBEDDED` one (made on first use), a folder of them, or an index file.

    An embedded set has the same clips on every `device`, in files that its decoder takes.
    """
    if data in EMBEDDED:
        from . import synthetic

        return Data(**synthetic.ensure(cache(), hard=data == "synthetic-hard", device=device))
    path = Path(data)
    if path.is_dir():
        found = {split: path / f"{split}.parquet" for split in SPLITS if (path / f"{split}.parquet").exists()}
        if "test" not in found:
            raise UserError(f"{path} holds no test.parquet: index its videos with `reelbench data index`")
        return Data(**found)
    if not path.exists():
        raise UserError(f"no data '{data}': give an index file, a folder of indexes, or one of {', '.join(EMBEDDED)}")
    return Data(test=path)


def fingerprint(data: Data) -> str:
    """Return the hash of the contents and order of every split."""
    from .index import Index

    parts = [Index.load(path).fingerprint for path in (data.train, data.val, data.test) if path is not None]
    return "-".join(part[:12] for part in parts)
