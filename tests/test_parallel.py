"""Work over many files in processes: in order, whatever an item does to its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
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

def sleepy(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(1000 if path.endswith("1") else 0)

def failed(number):
    return -number
"""


@pytest.mark.slow  # waits for items that hang
def test_an_item_that_crashes_or_hangs_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unruly.py").write_text(UNRULY)
    monkeypatch.syspath_prepend(tmp_path)
    import unruly  # type: ignore[import-not-found]

    monkeypatch.setattr(_parallel, "CHUNK", 2)
    found = _parallel.ordered(
        unruly.square, range(8), crashed=unruly.failed, title="", workers=2, progress=False, timeout=15.0
    )
    assert list(found) == [0, 1, 4, -3, 16, -5, 36, 49]
    sys.modules.pop("unruly")


# As users write a script: without `if __name__ == "__main__"`.
RUN = """
import unruly
from reelbench.pipelines import _parallel

files = [{folder!r} + f"/{{n}}" for n in range(2)]
for _ in _parallel.ordered(unruly.sleepy, files, crashed=unruly.failed, title="", workers=2, progress=False):
    print("one", flush=True)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
def test_workers_end_with_their_parent_whatever_they_are_at(tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "unruly.py").write_text(UNRULY)
    (tmp_path / "run.py").write_text(RUN.format(folder=str(tmp_path)))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, tmp_path / "run.py"], env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"one\n"
        while not (worker := (tmp_path / "1").read_text() if (tmp_path / "1").exists() else ""):
            time.sleep(0.05)
        parent.send_signal(end)
    assert parent.returncode != 0
    while psutil.pid_exists(int(worker)) and psutil.Process(int(worker)).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)
