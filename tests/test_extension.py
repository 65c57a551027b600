"""What DeepSpeed compiles: told before it happens, apart for every environment, and never waited for in vain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reelbench.harness import extension


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / extension.NAME).mkdir()
    return tmp_path / extension.NAME


def test_compiling_is_told_only_where_it_will_happen(folder: Path):
    assert extension.will_compile("cpu")
    assert not extension.will_compile("cuda")
    (folder / f"{extension.NAME}.so").touch()
    assert not extension.will_compile("cpu")


def test_every_environment_has_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    here = extension.root()
    monkeypatch.setattr(sys, "prefix", "/another")
    assert extension.root() != here


def test_a_lock_is_removed_once_nobody_holds_it(folder: Path):
    extension.forget_dead_lock()  # there is none
    hold = (
        f"import os, time; os.open({str(folder / 'lock')!r}, os.O_CREAT | os.O_EXCL); print(flush=True); time.sleep(99)"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        builder.stdout.readline()
        extension.forget_dead_lock()
        assert (folder / "lock").exists()
        builder.kill()
    extension.forget_dead_lock()
    assert os.listdir(folder) == []
