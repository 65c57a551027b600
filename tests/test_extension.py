"""What DeepSpeed compiles: told before it happens, apart for every environment, and never waited for in vain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reelbench.harness.training import ds_extension


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / ds_extension.NAME).mkdir()
    return tmp_path / ds_extension.NAME


def test_compiling_is_told_only_where_it_will_happen(folder: Path):
    assert ds_extension.will_compile("cpu", 2)
    assert not ds_extension.will_compile("cpu", 1)
    assert not ds_extension.will_compile("cuda", 2)
    (folder / f"{ds_extension.NAME}.so").touch()
    assert not ds_extension.will_compile("cpu", 2)


@pytest.mark.slow  # imports deepspeed
def test_one_rank_compiles_nothing(folder: Path):
    connect = (
        "from reelbench.harness.training import engine; world = engine.connect('cpu'); "
        "print(world.size); engine.disconnect()"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    done = subprocess.run([sys.executable, "-c", connect], env=clean, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
    assert os.listdir(folder) == []


def test_every_environment_has_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    here = ds_extension.root()
    monkeypatch.setattr(sys, "prefix", "/another")
    assert ds_extension.root() != here


def test_a_lock_is_removed_once_nobody_holds_it(folder: Path):
    ds_extension.remove_stale_lock()  # there is none
    hold = (
        f"import os, time; os.open({str(folder / 'lock')!r}, os.O_CREAT | os.O_EXCL); print(flush=True); time.sleep(99)"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        builder.stdout.readline()
        ds_extension.remove_stale_lock()
        assert (folder / "lock").exists()
        builder.kill()
    ds_extension.remove_stale_lock()
    assert os.listdir(folder) == []
