"""The cache folder, for what takes long to make and can be made again: data sets, counts, measured decoders."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """Return `$REELBENCH_CACHE`, or `~/.cache/reelbench`; it need not exist."""
    return Path(os.environ.get("REELBENCH_CACHE", "~/.cache/reelbench")).expanduser()
