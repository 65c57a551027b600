"""The tables behind the measured one: operations, curves as numbers, what limits a case; and which report has which."""

from __future__ import annotations

import dataclasses

from reelbench import reports
from reelbench.reports import _curves, _details, _operations
from reelbench.reports._table import Table
from reelbench.result import Metric, Result

from .examples import measured

COUNTED = {"flops_by_operator": {"conv": 2.5e9, "linear": 1e8, "attention": 0.0},
           "flops_unsupported_operators": {"aten::add": 3, "aten::gelu": 12}}  # fmt: skip
BUDGET = [
    {"views": "1x1", "count": 1, "metric": "top1", "accuracy": 60.0, "low": 58.0, "high": 62.0,
     "gflops_video": 2.0, "ms_video": 3.0},
    {"views": "10x3", "count": 30, "metric": "top1", "accuracy": 70.0, "low": 68.0, "high": 72.0,
     "gflops_video": 60.0, "ms_video": 91.0},
]  # fmt: skip
SWEEP = [
    {"batch": 1, "ms": 2.0, "low": None, "high": None, "clips_s": 500.0},
    {"batch": 16, "ms": 20.0, "low": 19.0, "high": 21.0, "clips_s": 800.0},
]


def case(model: str = "tsm/micro", **details: object) -> Result:
    return dataclasses.replace(measured(1.0, model=model), details=details)


def shown(table: Table | None) -> list[dict[str, str]]:
    assert table is not None
    return [{c.label: cell.full for c, cell in zip(table.columns, row.cells, strict=True)} for row in table.rows]


def test_operations_are_counted_by_kind_and_what_is_not_counted_is_named():
    [row] = shown(_operations.table([case(**COUNTED), case("vivit/micro")]))
    assert row["conv (G)"] == "2.50"
    assert row["linear (G)"] == "0.100"
    assert "attention (G)" not in row
    assert row["not counted"] == "gelu 12, add 3"


def test_views_have_their_costs_and_their_energy_where_it_was_measured():
    without = case(view_budget=BUDGET)
    energy = Metric(value=0.5, unit="J")
    with_energy = dataclasses.replace(without, metrics={**without.metrics, "energy_j_clip": energy})
    assert "energy (J/video)" not in shown(_curves.views([without]))[0]
    one, all_ = shown(_curves.views([with_energy]))
    assert (one["views"], one["accuracy (%)"], one["energy (J/video)"]) == ("1x1", "60.0 [58.0, 62.0]", "0.500")
    assert (all_["GFLOPs/video"], all_["time (ms/video)"], all_["energy (J/video)"]) == ("60.0", "91.0", "15.0")


def test_batches_have_their_times_with_the_intervals_that_are_known():
    one, sixteen = shown(_curves.batches([case(batch_sweep=SWEEP)]))
    assert (one["batch"], one["time (ms)"], one["throughput (clips/s)"]) == ("1", "2.00", "500")
    assert (sixteen["batch"], sixteen["time (ms)"]) == ("16", "20.0 [19.0, 21.0]")


def test_nothing_is_shown_of_what_was_not_measured():
    assert _details.tables([case()]) == []


def test_every_text_has_the_limit_of_each_case_and_the_page_leaves_the_curves_to_its_script():
    results = [case(limit="The decoder limits: 9 clips/s together.", view_budget=BUDGET, batch_sweep=SWEEP, **COUNTED)]
    for kind in ("terminal", "markdown", "latex", "html"):
        text = reports.render(results, kind, columns=["all"] if kind == "terminal" else ())
        assert "The decoder limits: 9 clips/s together." in str(text)
    for kind, curves in (("markdown", True), ("html", False)):
        text = str(reports.render(results, kind))
        assert "What the operations are" in text
        assert ("Throughput against the batch" in text) == curves
        assert ("ms/video" in text) == curves


def test_a_page_says_how_many_rows_it_leaves_out_and_counts_those_alone_that_there_are():
    plain, counted = [case()] * 501, [case(**COUNTED)] * 501
    assert "1 more rows are in the Markdown report" in str(reports.render(counted, "html"))
    assert "more rows are in the Markdown report" not in str(reports.render([*plain, case(**COUNTED)], "html"))
