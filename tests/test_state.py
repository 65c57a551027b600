"""What reports say of the machine during each measurement."""

from __future__ import annotations

import dataclasses

from reelbench import reports
from reelbench.reports import _seeds, _state
from reelbench.result import Result

from .examples import measured

CPU = {"load_before": 0.5, "load_after": 1.96, "cpu_mhz": 2450, "others_cpu": 0.012, "calibration_ms": [0.7, 0.74]}
COOL = {"load_before": 1.0, "load_after": 1.0, "others_cpu": 0.0, "sm_clock_mhz": [1700, 1800, 1980],
        "temperature_c": [40, 41, 42], "power_w": [90.0, 300.2, 310.0], "reasons": [], "other_users": 0,
        "calibration_ms": [], "cpu_mhz": None, "disturbed": []}  # fmt: skip
HOT = {**COOL, "sm_clock_mhz": [1200, 1500, 1800], "reasons": ["power cap", "too hot"], "disturbed": ["too hot"]}


def case(seed: int = 0, **details: object) -> Result:
    made = measured(1.0)
    return dataclasses.replace(made, case=dataclasses.replace(made.case, seed=seed), details=details)


def shown(*results: Result) -> list[dict[str, str]]:
    table = _state.table(results)
    assert table is not None
    return [{c.label: cell.text for c, cell in zip(table.columns, row.cells, strict=True)} for row in table.rows]


def test_a_measurement_on_a_cpu_tells_load_and_pace():
    [row] = shown(case(machine=CPU))
    assert row["load average"] == "0.5 – 2.0"
    assert row["cores used by others (%)"] == "1"
    assert row["CPU (MHz)"] == "2450"
    assert row["calibration (ms)"] == "0.700 – 0.740"
    assert row["remarks"] == "–"
    assert not [name for name in row if name.startswith("GPU")]


def test_rounds_on_a_gpu_are_one_span_and_every_reason_once():
    cool, rounds = shown(case(machine=COOL), case(rounds=[COOL, HOT]))
    assert cool["GPU (MHz)"] == "1700 – 1980"
    assert rounds["GPU (MHz)"] == "1200 – 1980"
    assert rounds["GPU (°C)"] == "40 – 42"
    assert rounds["other users of the GPU"] == "0"
    assert rounds["remarks"] == "power cap, too hot"
    assert "calibration (ms)" not in rounds


def test_the_mean_of_seeds_tells_of_all_of_them():
    slow = {**CPU, "calibration_ms": [1.4, 1.5]}
    [row] = shown(*_seeds.merge([case(machine=CPU), case(1, machine=slow)]))
    assert row["calibration (ms)"] == "0.700 – 1.50"


def test_reports_show_it_where_it_is_known():
    told = [case(machine=CPU), case(1)]
    for kind in ("markdown", "html"):
        assert "What the machine did meanwhile" in str(reports.render(told, kind))
        assert "What the machine did meanwhile" not in str(reports.render([case()], kind))
    assert _state.table([case()]) is None
