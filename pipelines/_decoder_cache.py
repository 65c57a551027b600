"""Remembers the fastest decoder of an index on this machine, as measured: a small JSON file in the cache folder.

~/.cache/reelbench/decoders/5f0c….json     {"cpu": {"dense": "software", "segments": "dali"}, "machine": …}
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path

from .. import cache
from .index import Index, writable


def recall(index: Index, device: str, sampling: str) -> str | None:
    """Return the fastest decoder for a device and a kind of sampling (`dense`, `segments`); None if never measured."""
    if not _folder().is_dir():  # the fingerprint of a large index takes a second
        return None
    return _read(_file(index)).get(device, {}).get(sampling)


def remember(index: Index, device: str, chosen: dict[str, str]) -> None:
    """Store {kind of sampling: fastest decoder} of a device, replacing all that was stored for it.

    Raises UserError if the cache folder cannot be written to.
    """
    file = _file(index)
    writable(file)
    kept = {**_read(file), device: chosen, "machine": _machine()}
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    os.replace(partial, file)


def _folder() -> Path:
    return cache.folder() / "decoders"


def _file(index: Index) -> Path:
    name = f"{index.fingerprint} {' '.join(_machine())}"
    return _folder() / f"{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}.json"


def _read(file: Path) -> dict[str, dict[str, str]]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _machine() -> list[str]:
    """Identify the machine, since machines may share a cache folder."""
    import torch

    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return [platform.node(), platform.machine(), f"{len(os.sched_getaffinity(0))} cores", *gpus]
