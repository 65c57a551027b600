"""The processes behind a stream: they end with it, with its owner, and tell when one of them dies."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.pipelines.index import Index
from reelbench.spec import Clip

CLIP = Clip(frames=6, stride=3, size=48, short_side=56)


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=20)[1]


@pytest.mark.slow  # decoders that end
def test_a_dead_worker_is_an_error_and_no_hang(tiny_index: Index):
    before = set(children())
    with pipelines.open(tiny_index, clip=CLIP, batch=1, transform=pipelines.TrainTransform()) as stream:
        epoch = stream.epoch()
        next(epoch)
        victim = (set(children()) - before).pop()
        victim.kill()
        while victim.is_running() and victim.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        with pytest.raises(UserError, match="worker process died"):
            list(epoch)


def test_close_ends_the_workers(tiny_index: Index):
    before = set(children())
    stream = pipelines.open(tiny_index, clip=CLIP, batch=1, workers=2)
    next(iter(stream.epoch()))
    started = list(set(children()) - before)
    assert started
    stream.close()
    assert gone(started)


ORPHANS = """
import sys, time
from reelbench import pipelines
from reelbench.spec import Clip
if __name__ == "__main__":
    clip = Clip(frames=2, size=32, short_side=32)
    stream = pipelines.open(sys.argv[1], clip=clip, batch=1, transform=pipelines.TrainTransform())
    next(iter(stream.epoch()))
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow  # decoders in a process of their own
def test_workers_do_not_outlive_a_killed_parent(tiny_index: Index, tmp_path: Path):
    tiny_index.save(tmp_path / "index.parquet")
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS)
    with subprocess.Popen([sys.executable, script, tmp_path / "index.parquet"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        workers = [p for p in psutil.Process(parent.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        assert workers
        parent.kill()
    assert gone(workers)


FORGOTTEN = """
import weakref
class Anything: pass
thing = Anything()
weakref.finalize(thing, print, "finalizers run")  # the first one of a process: its finalizers run the last of all
import sys
from reelbench import pipelines
from reelbench.spec import Clip
if __name__ == "__main__":
    clip = Clip(frames=2, size=32, short_side=32)
    stream = pipelines.open(sys.argv[1], clip=clip, batch=1, transform=pipelines.TrainTransform())
    next(iter(stream.epoch()))
"""


@pytest.mark.slow  # decoders in a process of their own
def test_a_stream_left_open_does_not_keep_the_process(tiny_index: Index, tmp_path: Path):
    tiny_index.save(tmp_path / "index.parquet")
    script = tmp_path / "forgetful.py"
    script.write_text(FORGOTTEN)
    command = [sys.executable, script, tmp_path / "index.parquet"]
    assert subprocess.run(command, capture_output=True, timeout=120, check=True).stdout == b"finalizers run\n"


def test_workers_import_neither_torch_nor_pandas():
    code = "import sys, reelbench.pipelines.software; print({'torch', 'pandas', 'nvidia'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
