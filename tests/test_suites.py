"""Every line of every suite names things that exist, and `quick` has a row for each family."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reelbench import models
from reelbench.harness.suites import ledger, load, sweep
from reelbench.result import Metric, Result
from reelbench.spec import Case
from reelbench.tests import quick_seeds


@pytest.mark.parametrize("name", sorted(load.listing()))
def test_a_suite_names_things_that_exist(name):
    found = load.load(name)
    assert found.name == name
    assert found.description
    cases = found.on("cuda")
    for case in cases:
        models.find(case.model)
    assert len({case.case_id for case in cases}) == len(cases)


@pytest.mark.parametrize("name", ["latency", "throughput"])
def test_a_gpu_is_measured_as_it_is_used(name, monkeypatch):
    """Beside strict fp32 in bf16, compiled and replayed; a CPU lists none of it, whatever data the suite is given."""
    ways = {("fp32", "eager"), ("bf16", "eager"), ("bf16", "compile"), ("bf16", "cuda_graphs")}
    monkeypatch.setattr(sweep.splits, "resolve", lambda name, device: name)
    monkeypatch.setattr(sweep.splits, "fingerprint", lambda data: "")
    found = load.load(name, data="mine.parquet")
    gpu, cpu = (sweep.resolve_cases(found, device, ["tsm/r50_8f"]) for device in ("cuda", "cpu"))
    assert {(case.precision, case.mode) for case in gpu} == ways
    assert {(case.precision, case.mode) for case in cpu} == {("fp32", "eager")}
    assert {case.data for case in gpu} == {"mine.parquet"}


def test_a_decoder_that_is_asked_for_is_part_of_what_a_case_is(reelbench, tmp_path):
    (usual, *_), (auto, *_), (other, *_) = (
        load.load("quick", decoder=decoder).cases for decoder in (None, "auto", "software")
    )
    assert usual == auto
    assert "decoder" not in usual.to_json()  # the ids of results from before there was a choice stay
    assert Case.from_json(other.to_json()).decoder == "software"
    assert other.case_id != usual.case_id
    assert other.benchmark == usual.benchmark.replace("-cpu", "-software-cpu")
    code, _, err = reelbench("run", "quick", "--decoder", "nvdec", "--out", tmp_path, "--device", "cpu")
    assert (code, len(err.splitlines()), "decoder" in err and "nvdec" in err) == (2, 1, True)


def test_quick_trains_the_micro_of_every_family():
    micros = {name for name in models.names() if name.endswith("/micro")}
    assert {case.model for case in load.load("quick").cases} == micros
    assert all("accuracy" in case.metrics for case in load.load("quick").cases)


def test_the_zoo_is_the_zoo():
    """Suites name models without importing torch; here the names are held to what there is."""
    from reelbench.suites._zoo import FLAGSHIPS, ZOO

    assert list(ZOO) == [name for name in models.names() if not name.endswith("/micro")]
    assert len(FLAGSHIPS) == len({name.partition("/")[0] for name in ZOO})
    assert {name.partition("/")[0] for name in FLAGSHIPS} == {name.partition("/")[0] for name in ZOO}


def test_the_table_of_seeds_names_what_is_missing_or_did_not_learn():
    def trained(case: Case, top1: float, learned: bool) -> Result:
        metric = Metric(value=top1, unit="%", low=top1 - 4, high=top1 + 4)
        return Result(
            case=case, status="ok", started="", seconds=1.0, metrics={"top1": metric}, details={"learned": learned}
        )

    first, *others = [case for case in load.load("quick_seeds").cases if case.seed == 0]
    found = [trained(first, 14.0, False), *(trained(case, 50.0, True) for case in others[:-1])]
    text, bad = quick_seeds.table({"avx2": found}, seeds=1)
    assert f"| {first.model} | avx2 | 14.0* |" in text
    assert f"| {others[0].model} | avx2 | 50.0 |" in text
    assert bad == [f"{first.model} avx2 seed 0: 14.0*", f"{others[-1].model} avx2 seed 0: missing"]


def test_every_seed_that_is_kept_is_of_todays_suite_and_none_is_missing_or_did_not_learn():
    kept = {arithmetic: ledger.read(quick_seeds.KEPT / arithmetic) for arithmetic in quick_seeds.ARITHMETICS}
    assert quick_seeds.table(kept, seeds=10)[1] == []
    for results in kept.values():
        found = {replace(result.case, fingerprint="").case_id for result in results}
        assert found == {case.case_id for case in load.load("quick_seeds").cases}
