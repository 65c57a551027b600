"""The GPUs of CUDA_VISIBLE_DEVICES, by number or UUID: DeepSpeed's runner ignores the variable."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

from ...errors import UserError

VARIABLE = "CUDA_VISIBLE_DEVICES"


def devices(ranks: int, environment: Mapping[str, str]) -> list[str]:
    """Return the first `ranks` GPUs of CUDA_VISIBLE_DEVICES; [] if it is not set.

    As in CUDA, a negative number ends the list. Raises UserError if there are fewer GPUs than ranks.

    >>> devices(2, {"CUDA_VISIBLE_DEVICES": "5, 3,0"})
    ['5', '3']
    """
    if VARIABLE not in environment:
        return []
    text = environment[VARIABLE]
    names = list(takewhile(lambda name: name and not name.startswith("-"), map(str.strip, text.split(","))))
    if len(names) < ranks:
        raise UserError(f"{ranks} ranks, but {VARIABLE}={text} names {len(names)} GPUs: name more, or take fewer ranks")
    return names[:ranks]
