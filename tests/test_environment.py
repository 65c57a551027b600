"""A process that measures uses a known number of threads, whatever torch would have chosen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reelbench.harness.events import Event
from reelbench.harness.measuring import environment
from reelbench.harness.suites import case, worker
from reelbench.spec import Case


class Begun(BaseException):
    """Raised where the measuring process would begin its work: no `except Exception` swallows it."""


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("asked", "found"), [("3", 3), ("5,2", 5), (" 1 ", 1)])
def test_the_user_may_set_the_threads(monkeypatch, asked, found):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    environment.fix_threads()
    assert environment.threads() == found
    assert environment.collect()["threads"] == found


@pytest.mark.parametrize("nonsense", ["", "many", "0", "-2"])
def test_else_they_are_the_cores_at_hand(monkeypatch, nonsense):
    monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5, 7})
    torch.set_num_threads(6)
    assert environment.threads() == 4
    torch.set_num_threads(2)  # torch's own choice is one a physical core
    assert environment.threads() == 2
    environment.fix_threads()
    assert environment.threads() == 2


class Mute:
    """A parent that is told nothing."""

    def report(self, event: Event) -> None:
        pass


@pytest.mark.parametrize(("module", "work"), [(case, "run"), (worker, "_serve")])
def test_measuring_processes_begin_with_it(monkeypatch, tmp_path, module, work):
    seen = []

    def begin(*_, **__):
        seen.append(torch.get_num_threads())
        raise Begun

    (tmp_path / "case.json").write_text(json.dumps(Case(model="tsm/micro").to_json()))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "case.json"), str(tmp_path)])
    monkeypatch.setattr(module, "Parent", Mute)
    monkeypatch.setattr(module, work, begin)
    with pytest.raises(Begun):
        module.main()
    assert seen == [3]


def test_a_checkout_names_its_commit():
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert environment.collect()["commit"].removesuffix("-dirty") == commit
