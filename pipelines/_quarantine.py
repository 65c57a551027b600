"""The quarantine list beside an index file: the videos that `reelbench data check` found to be unusable."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import UserError


def quarantine_file(index: Path) -> Path:
    """Return the path of an index file's quarantine list, beside it."""
    return index.with_suffix(".quarantine.json")


def quarantined(index: Path) -> dict[tuple[str, str], str]:
    """Return {(path, hash): reason} of an index file's quarantined videos; empty if it has no list.

    Paths are relative to the root. Raises UserError if the list is damaged.
    """
    file = quarantine_file(index)
    if not file.is_file():
        return {}
    try:
        return {(row["path"], row["hash"]): row["reason"] for row in json.loads(file.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{file}: cannot be read: make it again with `reelbench data check {index}`") from None
