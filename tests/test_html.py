"""The HTML report as text: what stands in it. `test_html_browser.py` opens it."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from reelbench import reports
from reelbench.intervals import quantile
from reelbench.reports._ranking import reversals
from reelbench.reports._table import number
from reelbench.result import Metric, Result
from reelbench.spec import Case
from reelbench.tests.examples import RESULTS, page


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            self.scripts[-1] += data
        self.text += data


def test_the_page_needs_nothing_from_outside():
    found = Elements(page())
    addresses = [
        v for _, attrs in found.tags for name, v in attrs.items() if name in ("src", "href", "srcset", "action")
    ]
    assert [a for a in addresses if a is None or not a.startswith(("#", "data:"))] == []
    policy = next(attrs["content"] for tag, attrs in found.tags if tag == "meta" and "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "@import" not in page()
    assert len(page()) < 300_000


def test_text_from_results_stays_text():
    found = Elements(page())
    assert "img" not in {tag for tag, _ in found.tags}
    assert not [attrs for _, attrs in found.tags if any(name.startswith("on") for name in attrs)]
    assert len(found.scripts) == 2
    assert "<img src=x onerror=alert(1)>|evil_model_" in found.text
    assert "Example <b>&amp;" in found.text


def test_the_data_of_the_script_are_the_results():
    data = json.loads(Elements(page()).scripts[0])
    assert [c["id"] for c in data["cases"]] == [r.case_id for r in RESULTS]
    assert [c["model"] for c in data["cases"]] == [r.case.model for r in RESULTS]
    for case, result in zip(data["cases"], RESULTS, strict=True):
        assert set(case["values"]) == set(result.metrics)
        if "latency_ms" in result.metrics:
            metric = result.metrics["latency_ms"]
            assert case["values"]["latency_ms"] == pytest.approx([metric.value, metric.low, metric.high], rel=1e-5)
            assert case["samples"] == pytest.approx(sorted(metric.samples), rel=1e-5)


def test_every_case_has_its_command_and_every_failure_its_reason():
    text = Elements(page()).text
    for result in RESULTS:
        assert f"reelbench run case_{result.case_id}.py --device {result.case.device}" in text
        assert result.error in text
    for row in (p for r in RESULTS for p in r.published):
        assert row.source in text


def test_a_long_distribution_keeps_its_ends_and_its_median():
    samples = tuple(float(i) for i in range(10_001))
    metric = Metric(value=5000.0, unit="ms", samples=samples)
    result = dataclasses.replace(RESULTS[0], metrics={"latency_ms": metric})
    kept = json.loads(Elements(str(reports.render([result], "html"))).scripts[0])["cases"][0]["samples"]
    assert len(kept) == 200
    assert (kept[0], kept[-1]) == (0, 10_000)
    assert kept[100] == pytest.approx(5000, abs=50)


def drawn(result: Result) -> dict[str, Any]:
    """What the script is given to draw of a single case."""
    return json.loads(Elements(str(reports.render([result], "html"))).scripts[0])["cases"][0]


def test_the_tail_in_words_is_that_of_all_samples():
    samples = tuple(1.01**i for i in range(1000))
    metric = Metric(value=samples[500], unit="ms", samples=samples)
    case = drawn(dataclasses.replace(RESULTS[0], metrics={"latency_ms": metric}))
    p90, p99 = (number(quantile(sorted(samples), share)) for share in (0.9, 0.99))
    assert case["label"] == f"median {number(samples[500])} ms, 90 % under {p90}, 99 % under {p99} ms"


def test_curves_come_with_their_costs_and_their_words():
    sweep = [{"batch": 4, "ms": 8.0, "low": 5.0, "high": 10.0, "clips_s": 500.0}]
    views = {"views": "10x1", "count": 10, "metric": "top1", "accuracy": 70.0, "low": 65.0, "high": 75.0,
             "gflops_video": 20.0, "ms_video": 0.0}  # fmt: skip
    energy = {"energy_j_clip": Metric(value=0.5, unit="J")}
    result = dataclasses.replace(RESULTS[0], metrics=energy, details={"batch_sweep": sweep, "view_budget": [views]})
    case = drawn(result)
    assert case["batches"] == [{"x": 4, "y": 500.0, "low": 400.0, "high": 800.0, "label": "batch 4: 500"}]
    [mark] = case["budgets"]
    assert mark["x"] == {"gflops_video": 20.0, "j_video": 5.0}  # what costs nothing has no place on the axis
    assert mark["label"] == "10x1: 70.0"


def test_every_table_links_a_case_to_its_command():
    counted = {"flops_by_operator": {"conv": 1e9}}
    results = [RESULTS[0], dataclasses.replace(RESULTS[1], details=counted)]
    text = str(reports.render(results, "html"))
    operations = text.partition('<section id="operations">')[2].partition("</section>")[0]
    assert RESULTS[1].case_id in operations
    assert 'href="#case-1"' in operations


def test_the_environment_shows_what_changed_between_cases():
    hot = dataclasses.replace(RESULTS[1], environment={**RESULTS[1].environment, "threads": 1})
    text = Elements(str(reports.render([RESULTS[0], hot], "html"))).text
    assert "2, 1" in text
    assert "packages torch" in text


def test_a_ranking_that_changes_with_the_mode_is_told():
    def timed(model: str, mode: str, ms: float) -> Result:
        metric = Metric(value=ms, unit="ms", low=0.99 * ms, high=1.01 * ms)
        case = Case(model=model, mode=mode)  # type: ignore[arg-type]
        return Result(case=case, status="ok", started="", seconds=1.0, metrics={"latency_ms": metric})

    eager = [timed("tsm/micro", "eager", 2.0), timed("tps/micro", "eager", 3.0)]
    same = [timed("tsm/micro", "compile", 1.0), timed("tps/micro", "compile", 1.01)]
    other = [timed("tsm/micro", "compile", 2.0), timed("tps/micro", "compile", 1.0)]
    assert reversals(eager + same) == []
    [said] = reversals(eager + other)
    assert said.startswith(
        "tsm/micro is faster than tps/micro in cpu, fp32, eager (2.00 against 3.00 ms), but slower in"
    )
    assert said in str(reports.render(eager + other, "terminal")).replace("\n", " ")
    assert "The ranking depends on how the models are run" in str(reports.render(eager + other, "html"))
    assert "The ranking depends" not in str(reports.render(eager + same, "html"))
