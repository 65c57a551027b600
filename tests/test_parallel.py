"""Work over many files in processes: in order, whatever an item does to its process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from reelbench.pipelines import _parallel

UNRULY = """
import os, signal, time

def square(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 5:
        time.sleep(1000)
    return number * number

def failed(number):
    return -number
"""


def test_an_item_that_crashes_or_hangs_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unruly.py").write_text(UNRULY)
    monkeypatch.syspath_prepend(tmp_path)
    import unruly  # type: ignore[import-not-found]

    monkeypatch.setattr(_parallel, "CHUNK", 2)
    found = _parallel.ordered(
        unruly.square, range(8), crashed=unruly.failed, title="", workers=2, progress=False, patience=3.0
    )
    assert list(found) == [0, 1, 4, -3, 16, -5, 36, 49]
    sys.modules.pop("unruly")
