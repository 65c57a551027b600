"""The ledger survives what kills a run: torn lines, full disks, a second writer, a newer schema."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelbench.errors import UserError
from reelbench.harness.lock import lock
from reelbench.harness.suites import ledger
from reelbench.result import Metric, Result
from reelbench.spec import Case, Published, Recipe, Views


def result(model: str = "tsm/micro", seconds: float = 1.0) -> Result:
    metric = Metric(value=1.5, unit="ms", low=1.0, high=2.0, samples=(1.0, 2.0), convention="batch 1")
    return Result(
        case=Case(model=model, recipe=Recipe(), views=Views(clips=4, crops=3)),
        status="ok",
        started="2026-01-01T00:00:00+00:00",
        seconds=seconds,
        metrics={"latency_ms": metric},
        published=(Published(model="tsm/r50_8f", dataset="K400", source="README", top1=73.18),),
    )


def test_a_result_reads_back_as_it_was():
    assert Result.from_json(result().to_json()) == result()


def test_the_newest_result_of_a_case_counts(tmp_path: Path):
    for seconds in (1.0, 2.0):
        ledger.append(tmp_path, result(seconds=seconds))
    ledger.append(tmp_path, result("video_swin/micro"))
    assert [(r.case.model, r.seconds) for r in ledger.read(tmp_path)] == [("tsm/micro", 2.0), ("video_swin/micro", 1.0)]


@given(st.data())
def test_killed_at_any_byte_the_ledger_keeps_every_whole_line(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("ledger")
    ledger.append(out, result())
    whole = (out / ledger.FILE).stat().st_size
    ledger.append(out, result("video_swin/micro"))
    cut = data.draw(st.integers(whole, (out / ledger.FILE).stat().st_size - 1))
    os.truncate(out / ledger.FILE, cut)
    assert [r.case.model for r in ledger.read(out)] == ["tsm/micro"]
    ledger.append(out, result("tps/micro"))
    assert [r.case.model for r in ledger.read(out)] == ["tsm/micro", "tps/micro"]


def test_a_full_disk_leaves_the_ledger_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ledger.append(tmp_path, result())
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:40]))
    with pytest.raises(UserError, match="No space left"):
        ledger.append(tmp_path, result("video_swin/micro"))
    monkeypatch.undo()
    assert [r.case.model for r in ledger.read(tmp_path)] == ["tsm/micro"]


def test_a_newer_schema_is_named(tmp_path: Path):
    line = {**json.loads(result().to_json()), "schema": 99}
    (tmp_path / ledger.FILE).write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match="line 1: written by a newer ReelBench"):
        ledger.read(tmp_path)


def test_a_strange_line_is_named(tmp_path: Path):
    (tmp_path / ledger.FILE).write_text('{"schema": 1}\n')
    with pytest.raises(UserError, match="line 1: not a result"):
        ledger.read(tmp_path)


def test_one_writer_at_a_time(tmp_path: Path):
    said = f"in use by another run .process {os.getpid()} on "
    with lock(tmp_path), pytest.raises(UserError, match=said), lock(tmp_path):
        pass


def test_a_case_is_named_by_everything_in_it():
    assert result().case_id == result(seconds=2).case_id
    assert Case(model="tsm/micro").case_id != Case(model="tsm/micro", seed=1).case_id
