"""Several machines in one report: no row is lost, and each table, plot and comparison says which machine is meant."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from reelbench import reports
from reelbench.errors import UserError
from reelbench.harness.results import load_results
from reelbench.harness.suites import ledger
from reelbench.reports import _cards, _charts, _environment, _machines, _points, _ranking, compare, figure, paper
from reelbench.result import Metric, Result
from reelbench.tests.examples import RESULTS, measured

ONE, TWO = ({"cpu": name, "cores": 2, "gpus": [], "load": load} for name, load in (("Slow CPU", 1.0), ("Quick CPU", 2)))
MODELS = ("tsm/micro", "tps/micro", "mvit/micro")


def on(environment: dict, ms: float, model: str = "tsm/micro", **fields: object) -> Result:
    found = measured(ms, model=model, low=ms - 0.1, high=ms + 0.1, samples=(ms,) * 4)
    metrics = {**found.metrics, "top1": Metric(value=50.0, unit="%", low=45.0, high=55.0)}
    return dataclasses.replace(found, metrics=metrics, environment=environment, **fields)  # type: ignore[arg-type]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """The same three cases from two machines, and one more from the second."""
    for name, environment, scale in (("a", ONE, 2.0), ("b", TWO, 1.0)):
        for i, model in enumerate(MODELS[: 2 + (name == "b")]):
            ledger.append(tmp_path / name, on(environment, scale * (i + 1), model))
    return [tmp_path / "a", tmp_path / "b"]


@pytest.fixture
def results(folders: list[Path]) -> list[Result]:
    return list(load_results(*folders))


def test_a_report_of_two_machines_loses_no_row(results):
    assert len(results) == 5
    rows = list(csv.DictReader(io.StringIO(str(reports.render(results, "csv")))))
    assert [row["machine"] for row in rows] == ["Slow CPU, 2 cores"] * 2 + ["Quick CPU, 2 cores"] * 3
    for kind in ("terminal", "markdown", "latex", "html", "paper"):
        text = str(reports.render(results, kind))
        assert "Slow CPU, 2 cores" in text, kind
        assert "Quick CPU, 2 cores" in text, kind
    marked = [row.cells[0].notes for row in paper.table(results).rows]
    assert marked == [(1,), (1,), (2,), (2,), (2,)]


def test_rows_of_a_machine_stand_together(results):
    mixed = [results[2], results[0], results[3], results[1]]
    assert [r.machine[:5] for r in reports._rows(mixed, "csv")] == ["Quick", "Quick", "Slow ", "Slow "]
    assert reports._rows(RESULTS[::-1], "csv") == RESULTS[::-1]


def test_a_pivot_has_a_column_per_machine_and_ratios_where_both_have_the_case(results):
    table = _machines.pivot(results, "latency_ms")
    assert [c.header for c in table.columns] == [
        "model", "Slow CPU, 2 cores", "Quick CPU, 2 cores", "Quick CPU, 2 cores / Slow CPU, 2 cores", "case",
    ]  # fmt: skip
    texts = [[cell.text for cell in row.cells[:-1]] for row in table.rows]
    assert texts == [
        ["tsm/micro", "2.00", "1.00", "0.50"], ["tps/micro", "4.00", "2.00", "0.50"], ["mvit/micro", "–", "3.00", "–"],
    ]  # fmt: skip
    with pytest.raises(UserError, match="did you mean 'latency_ms'"):
        _machines.pivot(results, "latency_m")
    assert _machines.speeds(results[:2]) is None


def test_the_command_filters_pivots_and_says_what_a_later_folder_replaces(folders, reelbench, tmp_path):
    _, out, err = reelbench("report", *folders, "--pivot", "top1", "--format", "csv")
    lines = out.splitlines()
    assert lines[0].startswith('model,"Slow CPU, 2 cores (%)","Quick CPU, 2 cores (%)"')
    assert lines[1].startswith("tsm/micro,50.0,50.0,1.0,")
    assert not err
    _, out, _ = reelbench("report", *folders, "--machine", "slow", "--format", "markdown")
    assert "Quick CPU" not in out
    assert "tps/micro" in out
    code, _, err = reelbench("report", *folders, "--machine", "H100")
    assert (code, "none of Slow CPU, 2 cores, Quick CPU, 2 cores" in err) == (2, True)
    ledger.append(tmp_path / "c", on(ONE, 9.0))
    _, out, err = reelbench("report", folders[0], tmp_path / "c", "--format", "csv")
    assert "9.0" in out
    assert err.startswith("1 rows are of a case and machine that a later folder has too")


def test_plots_and_cards_name_the_machine(results):
    shown = _points.plot(results)
    assert shown is not None
    assert _points.machines(shown.points) == ["Slow CPU, 2 cores", "Quick CPU, 2 cores"]
    svg = figure.render(results, title="x", format="svg").decode()
    assert "Slow CPU, 2 cores" in svg
    assert "Slow CPU" not in figure.render(results[:2], title="x", format="svg").decode()
    data = _charts.data(results, page=10)
    assert [data["machines"][case["machine"]][:4] for case in data["cases"]] == ["Slow"] * 2 + ["Quic"] * 3
    assert any(card.detail == "tsm/micro, Quick CPU, 2 cores" for card in _cards.cards(results))


def test_a_ranking_may_depend_on_the_machine():
    found = [on(ONE, 1.0), on(ONE, 2.0, "tps/micro"), on(TWO, 3.0), on(TWO, 2.0, "tps/micro")]
    [sentence] = _ranking.reversals(found)
    assert "faster than tps/micro in Slow CPU, 2 cores, cpu, fp32" in sentence


def test_detail_rows_lead_to_their_own_machine(results):
    page = str(
        reports.render([dataclasses.replace(r, details={"time_breakdown": {"wall": 1.0}}) for r in results], "html")
    )
    section = page[page.index('<section id="time_breakdown">') :]
    indexes = [part.partition('"')[0] for part in section.split('data-index="')[1:6]]
    assert indexes == ["0", "1", "2", "3", "4"]


def test_a_benchmark_file_is_of_one_machine(results):
    with pytest.raises(UserError, match="choose one with --machine"):
        reports.render(results, "benchmark")


def test_a_case_on_the_cpu_of_a_gpu_machine_is_of_its_cpu():
    gpus = [{"name": "H100", "driver": "1"}]
    found = on({**ONE, "gpus": gpus}, 1.0)
    assert found.machine == "Slow CPU, 2 cores"
    there = dataclasses.replace(found, case=dataclasses.replace(found.case, device="cuda"))
    assert there.machine == "H100"
    assert dataclasses.replace(there, environment={**ONE, "gpus": gpus * 8}).machine == "8 × H100"


# ---- comparisons


def test_a_comparison_pairs_by_machine_first(results):
    verdicts, notes = compare.judge(results, results[::-1])
    assert len(verdicts) == 2 * len(results)
    assert {v.difference.ratio[0] for v in verdicts if v.difference.ratio} == {1.0}
    assert notes == []


def test_a_comparison_across_machines_says_so(results):
    _, notes = compare.judge(results[:2], results[2:])
    assert notes[0] == "2 of the cases were measured on Slow CPU, 2 cores in A, on Quick CPU, 2 cores in B"
    assert notes[1].startswith("Only in B: mvit/micro")


def test_a_comparison_begins_with_what_differs_around_and_nothing_else():
    code = {"models/tsm.py": "11", "intervals.py": "33", "/home/me/nets/mine.py": "1"}
    a = on({**ONE, "packages": {"torch": "2.12", "av": "1"}}, 1.0, provenance=code)
    b = on({**ONE, "load": 9.0, "packages": {"torch": "2.13", "av": "1"}}, 1.0)
    b = dataclasses.replace(
        b, provenance={**code, "models/tsm.py": "22", "models/tps.py": "5", "/home/me/nets/mine.py": "2"}
    )
    [around, _] = compare.tables([a], [b])
    assert [[cell.text for cell in row.cells] for row in around.rows] == [
        ["packages torch", "2.12", "2.13"], ["models/tsm.py", "11", "22"], ["nets/mine.py", "1", "2"],
    ]  # fmt: skip
    assert compare.render([a], [b]).index("packages torch") < compare.render([a], [b]).index("Differences")
    assert _environment.differences([a], [a]) is None
    assert len(compare.tables([a], [a])) == 1


def test_earlier_results_by_other_code_do_not_count():
    before, after = on(ONE, 1.0, provenance={"models/tsm.py": "1"}), on(ONE, 9.0, provenance={"models/tsm.py": "2"})
    [_, verdict], notes = compare.judge([before, after, after], [after])
    assert (verdict.difference.a, verdict.difference.b) == (9.0, 9.0)
    assert notes == ["1 earlier results of these cases, by other code or versions, are left out"]
    assert compare.judge([on(ONE, 1.0), on(ONE, 2.0)], [after])[0][1].difference.a == 1.5
