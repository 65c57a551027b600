"""While a suite runs: its page after each case, how far it is, and the browser that shows it."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest
from reelbench import reports
from reelbench.harness.cli.suite import Page
from reelbench.harness.suites import sweep
from reelbench.result import Metric, Result
from reelbench.spec import Case, Suite

SUITE = Suite(
    name="test",
    description="",
    cases=tuple(Case(model=model, metrics=("parameters",)) for model in ("tsm/micro", "vivit/micro")),
)


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(case: Case, *_: object) -> Result:
        return Result(case=case, status="ok", started="", seconds=1.0, metrics={"params": Metric(value=1e6, unit="")})

    monkeypatch.setattr(sweep, "_run_in_process", run)


def test_after_each_case_the_results_so_far_and_how_far_it_is(tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []
    sweep.sweep(SUITE, tmp_path, device="cpu", live=lambda found, status: seen.append((len(found), status)))
    assert [count for count, _ in seen] == [1, 2]
    assert seen[0][1].startswith("1 of 2 cases, about ")
    assert seen[1][1] == "2 of 2 cases"


def test_a_report_that_fails_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(found: list[Result], status: str) -> None:
        raise OSError("disk full")

    results, _ = sweep.sweep(SUITE, tmp_path, device="cpu", live=fail)
    assert len(results) == 2
    assert "no report meanwhile: OSError: disk full" in capsys.readouterr().err


def test_the_page_says_that_the_suite_runs_and_looks_for_more(tmp_path: Path) -> None:
    rows = sweep.sweep(SUITE, tmp_path, device="cpu")[0]
    reports.write(rows, "html", tmp_path / "a.html", status="1 of 2 cases, about 3 min left")
    reports.write(rows, "html", tmp_path / "b.html")
    running, ended = ((tmp_path / name).read_text() for name in ("a.html", "b.html"))
    assert "1 of 2 cases, about 3 min left" in running
    assert 'http-equiv="refresh"' in running
    assert 'http-equiv="refresh"' not in ended
    assert 'class="running"' not in ended


def test_a_run_writes_the_page_and_opens_it_once(tmp_path: Path, reelbench, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    class Desktop:
        def open(self, address: str) -> bool:
            opened.append(address)
            return True

    monkeypatch.setattr(webbrowser, "get", Desktop)
    (tmp_path / "mine.py").write_text(
        "from reelbench.spec import Case, Suite\n"
        'SUITE = Suite(name="mine", description="", cases=(Case(model="tsm/micro", metrics=("parameters",)),))\n'
    )
    code, _, err = reelbench("run", tmp_path / "mine.py", "--device", "cpu", "--out", tmp_path / "out", "--open")
    assert code == 0
    assert "1 of 1 cases" in err
    assert opened == [(tmp_path / "out" / "report.html").as_uri()]
    assert 'http-equiv="refresh"' not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("found", [None, webbrowser.GenericBrowser("w3m")])
def test_without_a_desktop_the_page_is_named(found, monkeypatch, capsys) -> None:
    def get() -> object:
        if found is None:
            raise webbrowser.Error("could not locate runnable browser")
        return found

    monkeypatch.setattr(webbrowser, "get", get)
    page = Page(Path("report.html"), asked=True)
    page.show()
    page.show()
    assert capsys.readouterr().err == "--open: no browser was found: open report.html\n"
