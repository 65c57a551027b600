"""Libraries that only their own addresses need, imported when one is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from ..errors import UserError


def load(library: str, extra: str) -> Any:
    """Import a library. Raises UserError, which names the extra to install, if it is missing or does not import."""
    if importlib.util.find_spec(library) is None:
        raise UserError(f"{extra}: models need {library}, which is not installed: pip install 'reelbench[{extra}]'")
    try:
        return importlib.import_module(library)
    except Exception as error:  # a build for another torch fails in many ways
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{library} does not import ({reason}): install the release that fits this torch, pip install "
            f"'reelbench[{extra}]'"
        ) from None
