"""What the HTML report does in a real browser (skipped where no Chromium is on PATH)."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reelbench import reports
from reelbench.reports import _training, _training_page
from reelbench.reports._stats import pareto
from reelbench.reports.html import script
from reelbench.result import Result
from reelbench.tests.browser import CHROMIUM, Browser
from reelbench.tests.examples import RESULTS, page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH")
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Browser:
    """The example page, freshly opened, 1200 pixels wide, light."""
    browser.send("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    path = tmp_path / "report.html"
    path.write_text(page(), encoding="utf-8")
    browser.open(path)
    return browser


def complaints(browser: Browser) -> list[Any]:
    """Everything that the page logged, threw or asked of the network."""
    kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    noise = [e["params"] for e in browser.events if e.get("method") in kinds]
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    return noise + [url for url in asked if not url.startswith(("file:", "data:"))]


def column(browser: Browser, name: str) -> list[str]:
    """The visible cells of a column of the measured table, top to bottom."""
    script = f"""(() => {{
      const table = document.querySelector('#measured table');
      const i = [...table.tHead.rows[0].cells].findIndex(c => c.textContent.startsWith({json.dumps(name)}));
      return [...table.tBodies[0].rows].filter(r => !r.hidden).map(r => r.cells[i].textContent.split(' ')[0]);
    }})()"""
    return browser.run(script)


def click_header(browser: Browser, name: str) -> None:
    browser.run(f"""[...document.querySelectorAll('#measured th button')]
        .find(b => b.textContent.startsWith({json.dumps(name)})).click()""")


def names(browser: Browser) -> list[str]:
    """The models in the plot, by their bubbles' labels for readers of the screen."""
    found = browser.run("[...document.querySelectorAll('.point')].map(p => p.getAttribute('aria-label'))")
    return sorted(label.split(",")[0] for label in found)


def set_value(browser: Browser, element: str, value: str, event: str) -> None:
    browser.run(f"""(() => {{ const e = document.getElementById({json.dumps(element)});
        e.value = {json.dumps(value)}; e.dispatchEvent(new Event('{event}')); }})()""")


def test_the_browser_has_no_complaint(shown: Browser):
    assert complaints(shown) == []
    assert shown.run("document.images.length") == 0
    assert shown.run("document.title") == "Example <b>&amp;"


def test_a_header_sorts_both_ways_with_the_missing_last(shown: Browser):
    values = sorted(r.metrics["top1"].value for r in RESULTS if "top1" in r.metrics)
    missing = len(RESULTS) - len(values)
    click_header(shown, "top-1")
    down = column(shown, "top-1")
    assert [float(v) for v in down[: len(values)]] == pytest.approx(values[::-1], abs=0.06)
    assert down[len(values) :] == ["–"] * missing
    click_header(shown, "top-1")
    up = column(shown, "top-1")
    assert [float(v) for v in up[: len(values)]] == pytest.approx(values, abs=0.06)
    assert up[len(values) :] == ["–"] * missing
    assert shown.run("document.querySelectorAll('#measured th[aria-sort]').length") == 1
    click_header(shown, "latency")
    assert column(shown, "latency")[0] == "7.93"
    for _ in range(2):
        click_header(shown, "checkpoint")
        assert [v for v in column(shown, "checkpoint") if v != "–"] == column(shown, "checkpoint")[:1]
    click_header(shown, "model")
    assert column(shown, "model")[1] == "dualformer/micro"
    assert complaints(shown) == []


def test_the_filter_narrows_the_table_and_the_plots(shown: Browser):
    set_value(shown, "filter", "MICRO t", "input")
    assert sorted(column(shown, "model")) == sorted(r.case.model for r in RESULTS if r.case.model.endswith("micro"))
    set_value(shown, "filter", "tsm", "input")
    assert column(shown, "model") == ["tsm/micro", "tsm/mobilenetv2_online"]
    assert names(shown) == ["tsm/micro"]
    assert shown.run("document.querySelectorAll('.latency').length") == 2
    assert shown.run("document.getElementById('count').value") == f"2 of {len(RESULTS)} cases"
    set_value(shown, "filter", RESULTS[3].case_id, "input")
    assert column(shown, "model") == [RESULTS[3].case.model]
    set_value(shown, "filter", "no such case", "input")
    assert column(shown, "model") == []
    set_value(shown, "filter", "", "input")
    assert len(column(shown, "model")) == len(RESULTS)
    assert complaints(shown) == []


def centre(browser: Browser, model: str) -> list[float]:
    return browser.run(f"""(() => {{
      const point = document.querySelector('.point[aria-label^="{model},"]');
      point.scrollIntoView({{block: 'center'}});
      const box = point.querySelector('.center').getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2]; }})()""")


def test_hovering_names_the_case_and_its_numbers(shown: Browser):
    result = next(r for r in RESULTS if r.case.model == "mvit/micro")
    x, y = centre(shown, "mvit/micro")
    shown.mouse("mouseMoved", x + 3, y)
    text = shown.run("document.querySelector('.tooltip:not([hidden])').innerText")
    top1, latency = result.metrics["top1"], result.metrics["latency_ms"]
    assert text.splitlines()[:2] == ["mvit/micro", result.case_id]
    assert f"top-1: {top1.value:.1f} [{top1.low:.1f}, {top1.high:.1f}] %" in text
    assert f"latency: {latency.value:.1f} [{latency.low:.1f}, {latency.high:.1f}] ms" in text
    assert "params: 0.391 M" in text
    shown.mouse("mouseMoved", 5, 5)
    assert shown.run("document.querySelector('.tooltip').hidden") is True


def test_the_keyboard_reaches_every_bubble(shown: Browser):
    shown.run("document.querySelector('.point[aria-label^=\"tsm/micro,\"]').focus()")
    assert shown.run("document.querySelector('.tooltip:not([hidden]) b').textContent") == "tsm/micro"


def test_a_click_on_a_bubble_marks_its_row(shown: Browser):
    x, y = centre(shown, "timesformer/micro")
    shown.mouse("mousePressed", x, y)
    shown.mouse("mouseReleased", x, y)
    assert shown.run("document.querySelector('tr.marked td').textContent") == "timesformer/micro"


def test_any_two_metrics_can_be_plotted(shown: Browser):
    metrics = shown.run("[...document.getElementById('x').options].map(o => o.value)")
    assert {"latency_ms", "throughput_clips_s", "gflops_view", "gflops_video", "memory_resident_mib", "params"} <= set(
        metrics
    )
    for name in metrics:
        set_value(shown, "x", name, "change")
        expected = [r.case.model for r in RESULTS if {name, "top1"} <= set(r.metrics) and r.case.data == "synthetic"]
        assert names(shown) == sorted(expected), name
        titles = shown.run("[...document.querySelectorAll('#plot .axis-title')].map(t => t.textContent)")
        chosen = shown.run("document.getElementById('x').selectedOptions[0].textContent")
        assert titles[0].startswith(chosen)
    assert "NaN" not in shown.run("document.querySelector('#plot svg').outerHTML")
    assert complaints(shown) == []


def front(browser: Browser) -> int:
    """The number of cases on the front: two corners each."""
    return len(re.findall("[ML]", browser.run("document.querySelector('.front').getAttribute('d')"))) // 2


def test_the_front_follows_the_axes(shown: Browser):
    assert front(shown) == 3
    set_value(shown, "x", "throughput_clips_s", "change")
    assert front(shown) == 3
    set_value(shown, "x", "params", "change")
    assert front(shown) == 3  # tsm, mvit, video_swin
    set_value(shown, "y", "gflops_video", "change")
    assert front(shown) == 1  # tsm has the fewest of both


@pytest.mark.parametrize(("x", "y"), list(itertools.product(("lower", "higher"), repeat=2)))
def test_the_page_and_the_reports_know_one_front(browser: Browser, x: str, y: str):
    draw = random.Random(1)
    points = 2 * [(draw.randint(0, 99), draw.randint(0, 99)) for _ in range(60)]  # pairs that agree in both
    given = json.dumps([{"i": i, "x": [x], "y": [y]} for i, (x, y) in enumerate(points)])
    call = f"pareto({given}, {{better: '{x}'}}, {{better: '{y}'}}).map(({{ p }}) => p.i)"
    found = browser.run(f"(() => {{ {script('front')}; return {call}; }})()")
    assert found == pareto(points, lower_x=x == "lower", higher_y=y == "higher")
    assert len(found) >= 2 * len({points[i] for i in found}) > 2


def test_the_data_set_and_the_legend_choose_what_is_shown(shown: Browser):
    other = next(r.case.data for r in RESULTS if r.case.data != "synthetic")
    set_value(shown, "dataset", other, "change")
    assert names(shown) == ["dualformer/micro"]
    set_value(shown, "dataset", "synthetic", "change")
    before = names(shown)
    switch = "[...document.querySelectorAll('.legend button')].find(b => b.textContent === 'vivit').click()"
    shown.run(switch)
    assert names(shown) == [n for n in before if n != "vivit/micro"]
    shown.run(switch)
    assert names(shown) == before


def test_every_sample_is_in_the_distributions(shown: Browser):
    with_samples = [r for r in RESULTS if "latency_ms" in r.metrics]
    drawn = sum(len(r.metrics["latency_ms"].samples) for r in with_samples)
    assert shown.run("document.querySelectorAll('.latency').length") == len(with_samples)
    assert shown.run("document.querySelectorAll('.latency .sample').length") == drawn
    assert "NaN" not in shown.run("document.querySelector('#latencies svg').outerHTML")


def background(browser: Browser) -> str:
    return browser.run("getComputedStyle(document.body).backgroundColor")


def test_light_and_dark_follow_the_system_and_the_button(shown: Browser):
    assert background(shown) == "rgb(255, 255, 255)"
    shown.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert background(shown) == "rgb(20, 23, 28)"
    shown.run("document.getElementById('theme').click()")
    assert background(shown) == "rgb(255, 255, 255)"
    shown.run("document.getElementById('theme').click()")
    assert background(shown) == "rgb(20, 23, 28)"


def test_print_is_light_and_complete(shown: Browser):
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    shown.send("Emulation.setEmulatedMedia", media="print", features=dark)
    assert background(shown) in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    assert shown.run("getComputedStyle(document.getElementById('theme')).display") == "none"
    shown.send("Emulation.setEmulatedMedia", media="", features=[])
    printed = base64.b64decode(shown.send("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000


@pytest.mark.parametrize("width", [360, 700, 1200])
def test_the_page_never_scrolls_sideways(shown: Browser, width: int):
    shown.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    shown.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert shown.run("document.documentElement.scrollWidth") <= width
    assert shown.run("document.querySelector('#plot svg').getBoundingClientRect().right") <= width


def test_a_link_opens_the_command(shown: Browser):
    shown.run("document.querySelector('#measured td a[href^=\"#case-\"]').click()")
    assert shown.run("new Promise(done => setTimeout(() => done(document.getElementById('case-0').open), 50))") is True


def test_without_a_plot_the_page_still_works(browser: Browser, tmp_path: Path):
    path = tmp_path / "bare.html"
    path.write_text(str(reports.render(RESULTS[-2:], "html")), encoding="utf-8")
    browser.open(path)
    assert complaints(browser) == []
    assert browser.run("document.getElementById('plot').hidden") is True
    click_header(browser, "model")
    assert column(browser, "model")[0].startswith("<img")


# ---- many cases, curves, rankings


def many(count: int) -> list[Result]:
    first = next(r for r in RESULTS if r.status == "ok" and "latency_ms" in r.metrics)
    return [dataclasses.replace(first, case=dataclasses.replace(first.case, workers=n)) for n in range(1, count + 1)]


def opened(browser: Browser, results: list[Result], tmp_path: Path) -> Browser:
    browser.send("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    path = tmp_path / "report.html"
    path.write_text(str(reports.render(results, "html", title="Example")), encoding="utf-8")
    browser.open(path)
    return browser


@pytest.mark.exhaustive
@pytest.mark.slow  # a page of thousands of cases
def test_many_rows_are_made_when_they_are_asked_for(browser: Browser, tmp_path: Path):
    shown = opened(browser, many(1200), tmp_path)
    rows = "document.querySelectorAll('#measured tbody tr').length"
    assert shown.run(rows) == 500
    shown.run("document.getElementById('next').click()")
    assert shown.run(rows) == 1000
    shown.run("document.getElementById('next').click()")
    assert shown.run(rows) == 1200
    assert shown.run("document.getElementById('next').hidden") is True
    click_header(shown, "workers")
    assert column(shown, "workers")[:3] == ["1", "2", "3"]
    click_header(shown, "workers")
    assert column(shown, "workers")[:3] == ["1200", "1199", "1198"]
    row = (
        "[...document.querySelector('tr[data-index=\"%d\"]').cells].slice(2, -1).map(c => [c.className, c.textContent])"
    )
    built, static = ([cell for cell in shown.run(row % i) if cell[1] != str(i + 1)] for i in (1199, 0))
    assert built == static
    assert complaints(shown) == []


@pytest.mark.slow  # a page of many cases
def test_the_filter_reaches_rows_that_are_not_made_yet(browser: Browser, tmp_path: Path):
    results = many(1200)
    shown = opened(browser, results, tmp_path)
    set_value(shown, "filter", results[1111].case_id, "input")
    assert shown.run("document.getElementById('count').value") == "1 of 1200 cases"
    assert column(shown, "case") == [results[1111].case_id]


def test_every_case_of_many_has_its_command(browser: Browser, tmp_path: Path):
    results = many(600)
    shown = opened(browser, results, tmp_path)
    shown.run("location.hash = '#case-599'")
    shown.run("new Promise(done => setTimeout(done, 50))")
    text = shown.run("document.getElementById('case-599').open && document.querySelector('#case-599 pre').textContent")
    assert "workers=600" in text
    assert "reelbench run" in text


def with_details(**details: object) -> list[Result]:
    return [dataclasses.replace(r, details=dict(details)) for r in RESULTS if "latency_ms" in r.metrics]


def test_curves_of_batches_and_views_are_drawn(browser: Browser, tmp_path: Path):
    sweep = [{"batch": b, "ms": 2.0 * b, "low": 1.9 * b, "high": 2.1 * b, "clips_s": 500.0} for b in (1, 2, 4)]
    budget = [
        {"views": f"{c}x1", "count": c, "metric": "top1", "accuracy": 60.0 + c, "low": 58.0 + c, "high": 62.0 + c,
         "gflops_video": 2.0 * c, "ms_video": 3.0 * c}
        for c in (1, 4, 10)
    ]  # fmt: skip
    results = with_details(batch_sweep=sweep, view_budget=budget)
    shown = opened(browser, results, tmp_path)
    for section in ("batches", "budgets"):
        assert shown.run(f"document.getElementById('{section}').hidden") is False
        assert shown.run(f"document.querySelectorAll('#{section} .curve').length") == len(results)
        assert shown.run(f"document.querySelectorAll('#{section} .curve circle').length") == 3 * len(results)
    assert "10x1: 70" in shown.run("document.querySelector('#budgets .curve title').textContent")
    set_value(shown, "cost", "ms_video", "change")
    assert shown.run("document.querySelector('#budgets .axis-title').textContent").startswith("milliseconds a video")
    assert complaints(shown) == []


def test_without_curves_their_sections_are_hidden(shown: Browser):
    assert shown.run("document.getElementById('batches').hidden && document.getElementById('budgets').hidden")


def test_the_front_shows_how_sure_it_is(shown: Browser):
    assert shown.run("document.querySelectorAll('#plot .band').length") == 1
    shown.run("document.querySelector('.point').dispatchEvent(new FocusEvent('focusin', {bubbles: true}))")
    assert re.search(r"on the front in \d+ % of draws", shown.run("document.querySelector('.tooltip').textContent"))


def test_the_page_of_training_runs_draws_a_line_per_run_and_curve(browser, tmp_path):
    for name, steps in (("a", 30), ("<b>", 1)):
        (tmp_path / name).mkdir()
        rows = [{"step": k, "loss": 2.0 / (k + 1), "lr": 0.1, "wait": 1.0, "compute": 1.0} for k in range(steps)]
        (tmp_path / name / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = tmp_path / "training.html"
    _training_page.write(_training.read([tmp_path / "a", tmp_path / "<b>"]), "html", page)
    browser.open(page)
    assert browser.run("document.querySelectorAll('section svg').length") == 3
    assert browser.run("document.querySelectorAll('#loss .curve').length") == 2
    names = "[...document.querySelectorAll('#loss .curve > text')].map((t) => t.textContent)"
    assert sorted(browser.run(names)) == ["<b>", "a"]
    assert complaints(browser) == []
