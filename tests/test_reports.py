"""Reports: stored results (invented numbers of a plausible size), expected text for each format, and their properties.

The expected texts stand in tests/golden/results; a change of a format shows as a difference there. Case ids are
replaced, because they change with every field that a case gains.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reelbench import reports
from reelbench.errors import UserError
from reelbench.reports import _measured, _reproduce, _summary, _table, latex, markdown, paper, terminal
from reelbench.result import Metric, Result
from reelbench.spec import Case, Clip, Published, Recipe, Views
from reelbench.tests.examples import GOLDEN, RESULTS, measured
from rich.cells import cell_len

WIDTH = 140


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())


def anonymous(text: str) -> str:
    for i, result in enumerate(RESULTS):
        text = text.replace(result.case_id, f"case{i:08}")
    return text


# ---- the formats


@pytest.mark.parametrize("kind", ["terminal", "markdown", "csv", "latex"])
def test_a_format_gives_the_expected_text(kind: str):
    if kind == "terminal":
        text = terminal.render(RESULTS, title="Example", width=WIDTH)
    else:
        text = reports.render(RESULTS, kind, title="Example")
        assert isinstance(text, str)
    suffix = {"terminal": ".txt", "markdown": ".md", "csv": ".csv", "latex": ".tex"}[kind]
    assert anonymous(text) == (GOLDEN / f"expected{suffix}").read_text(encoding="utf-8")


def test_every_format_is_found_by_its_file_name():
    assert reports.formats() == ["benchmark", "csv", "figure", "html", "latex", "markdown", "paper", "terminal"]


@pytest.mark.parametrize("kind", ["csv", "html", "latex", "markdown", "terminal"])
def test_every_case_is_in_every_text(kind: str):
    text = reports.render(RESULTS, kind, columns=["all"] if kind == "terminal" else ())
    assert isinstance(text, str)
    assert [r.case_id for r in RESULTS if r.case_id not in text] == []


@pytest.mark.parametrize("kind", ["csv", "latex", "markdown", "terminal", "html"])
def test_one_result_without_metrics_is_a_report(kind: str):
    failed = Result(case=Case(model="tsm/micro"), status="failed", started="", seconds=0.0, error="two\nlines")
    text = reports.render([failed], kind)
    assert isinstance(text, str)
    assert "failed" in text
    assert "two lines" in text or kind == "csv"


def test_an_unknown_format_and_no_results_are_told_in_one_line():
    with pytest.raises(UserError, match="unknown report format 'markdwon': did you mean 'markdown'"):
        reports.render(RESULTS, "markdwon")
    with pytest.raises(UserError, match="unknown report format 'compare'"):
        reports.render(RESULTS, "compare")
    with pytest.raises(UserError, match="no results found"):
        reports.render([], "markdown")


def test_write_puts_the_plot_beside_the_page(tmp_path: Path):
    written = reports.write(RESULTS, "html", tmp_path / "new" / "report.html")
    assert [p.name for p in written] == ["report.html", "report.png", "report.svg"]
    assert all(p.stat().st_size > 1000 for p in written)
    assert [p.name for p in reports.write(RESULTS[-1:], "html", tmp_path / "bare.html")] == ["bare.html"]
    assert reports.write(RESULTS, "csv", tmp_path / "r.csv") == [tmp_path / "r.csv"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_not_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert "\x1b[" in str(reports.render(RESULTS, "terminal"))
    (written,) = reports.write(RESULTS, "terminal", tmp_path / "r.txt")
    assert "\x1b[" not in written.read_text(encoding="utf-8")


# ---- the table


def test_a_column_exists_where_something_differs_or_was_measured():
    table = _measured.measured(RESULTS[:5])
    names = [c.name for c in table.columns]
    assert names[:3] == ["model", "flags", "top1"]
    assert names[-1] == "case_id"
    assert "status" not in names
    assert "synthetic · Example CPU @ 2.50GHz, 2 cores · cpu · fp32" in table.caption
    assert "precision" in [c.name for c in _measured.measured(RESULTS).columns]


def test_a_clip_of_its_own_is_named():
    plain = measured(1.0)
    longer = dataclasses.replace(plain, case=dataclasses.replace(plain.case, clip=Clip(frames=16, stride=4)))
    table = _measured.measured([plain, longer])
    assert table.columns[1].name == "clip"
    assert [row.cells[1].text for row in table.rows] == ["own clip", "16x4, 224²"]
    assert "clip" not in _measured.measured([plain]).caption
    assert "clip 16x4, 224²" in _measured.measured([longer]).caption


def test_a_metric_that_no_table_knows_gets_a_column():
    table = _measured.measured([measured(3.25, name="decibels")])
    assert [c.label for c in table.columns] == ["model", "decibels (ms)", "case"]
    assert table.rows[0].cells[1].text == "3.25"


def test_gflops_are_per_view_times_views():
    view, video = (Metric(value=v, unit="GFLOPs") for v in (7.05, 84.6))
    known = measured(1.0)
    known = dataclasses.replace(known, metrics={"gflops_view": view, "gflops_video": video})
    named = dataclasses.replace(known, case=dataclasses.replace(known.case, views=Views(clips=4, crops=3)))
    own = dataclasses.replace(known, details={"views": "10x3"})
    texts = [[c.text for c in row.cells[1:3]] for row in _measured.measured([known, named, own]).rows]
    assert texts == [["7.05", "84.6"], ["7.05 × 4×3", "84.6"], ["7.05 × 10×3", "84.6"]]


def test_a_column_says_once_what_its_values_share_and_a_row_what_differs():
    rows = [measured(float(n), convention=f"batch {n}, fp32, model only", warning="hot") for n in (1, 2)]
    table = _measured.measured(rows)
    assert [(c.name, c.convention) for c in table.columns if c.numeric] == [("latency_ms", "fp32, model only")]
    assert [row.cells[2].full for row in table.rows] == ["1.00 batch 1", "2.00 batch 2"]
    assert table.notes == ("Flags: w hot",)
    assert _measured.conventions(_measured.measured(rows[:1]).columns) == "Columns: latency: batch 1, fp32, model only"


def test_a_flag_is_a_letter_of_the_row_and_one_legend_explains_it():
    unsteady = "unsteady: wide"
    rows = [
        measured(1.0, warning="the clock fell by 12 %", flags=frozenset({"machine_disturbed"})),
        measured(2.0, warning="the clock fell by 13 %", flags=frozenset({"machine_disturbed", "unsteady"})),
        measured(3.0, warning=unsteady),
        measured(4.0),
    ]
    table = _measured.measured(rows)
    assert [row.cells[1].text for row in table.rows] == ["d", "d u", "u", "–"]
    assert table.rows[0].cells[1].hint == "the clock fell by 12 %"
    [legend] = table.notes
    assert legend.startswith("Flags: d the machine was slower or disturbed")
    assert "12 %" not in legend  # one meaning, however much each case was disturbed
    assert "flags" not in [column.name for column in _measured.measured(rows[3:]).columns]


def test_at_most_six_notes_stand_under_a_table_of_26_models():
    def doubtful(n: int) -> Result:
        metrics = {
            name: Metric(
                value=float(n), unit="ms", convention=f"batch {n}, fp32", warning=f"slower by {n} %",
                flags=frozenset({"machine_disturbed"}),
            )
            for name in ("latency_ms", "latency_p90_ms")
        }  # fmt: skip
        limit = f"The decoder limits: {n} clips/s together."
        details = {"limit": limit, "not_available": [f"reading {n}"], "cases": [f"case{n}", f"other{n}"]}
        case = Case(model=f"tsm/v{n}")
        return Result(case=case, status="ok", started="", seconds=1.0, metrics=metrics, details=details)  # type: ignore[arg-type]

    failed = [
        Result(case=Case(model=f"vivit/v{n}"), status="failed", started="", seconds=1.0, error=f"reason {n}")
        for n in range(6)
    ]
    rows = [*map(doubtful, range(1, 21)), *failed]
    assert max(len(table.notes) for table in _summary.tables(rows)) <= 6
    text = str(reports.render(rows, "terminal"))
    assert len(text.splitlines()) < 60
    assert "4 more errors" in text
    assert len(str(reports.render(rows, "latex")).split(r"\bottomrule")[1].split(r"\end{table*}")[0].splitlines()) <= 8


def test_times_that_a_slow_spell_of_the_machine_reached_say_so():
    def at(ms: float, name: str = "latency_ms") -> Result:
        state = {"calibration_ms": [ms, ms], "disturbed": []}
        return dataclasses.replace(measured(1.0, name=name), details={"machine": state}, environment={"cpu": "x"})

    elsewhere = dataclasses.replace(at(0.1), environment={"cpu": "another"})
    shown = _measured.measured([at(1.0), at(1.1), at(1.4), measured(1.0)])
    assert [row.cells[1].text for row in shown.rows] == ["–", "–", "d", "–"]
    assert "the machine itself ran 1.4 times slower than at its best among" in shown.rows[2].cells[1].hint
    assert not _measured.measured([at(1.0), dataclasses.replace(elsewhere)]).notes


def test_an_untrained_top1_says_so():
    notes = _measured.measured(RESULTS).notes
    [legend] = [note for note in notes if "did not learn" in note]
    assert "n did not learn: the lower bound of top-1 is not above twice chance (12.5 %)" in legend
    flags = [row.cells[1].text for row in _measured.measured(RESULTS).rows]
    assert [r.details.get("learned") is False for r in RESULTS] == ["n" in text for text in flags]


def test_an_untrained_top1_says_what_to_try():
    unlearned = next(result for result in RESULTS if result.details.get("learned") is False)
    advised = dataclasses.replace(unlearned, details={**unlearned.details, "advice": "the loss was flat: another lr"})
    assert any(
        note.endswith("twice chance (12.5 %); the loss was flat: another lr")
        for note in _measured.measured([advised]).notes
    )


def test_published_rows_are_apart_and_appear_once():
    first, second = _summary.tables([*RESULTS, *RESULTS])
    models = {p.model for r in RESULTS for p in r.published}
    assert not models & {row.cells[0].text for row in first.rows}
    assert [row.cells[0].text for row in second.rows] == ["video_swin/t", "video_swin/b", "tsm/r50_8f", "timesformer/b"]
    assert "not measured" in second.title
    assert {"source", "dataset", "gflops_view"} <= {c.name for c in second.columns}
    assert "282 × 4×3" in [c.text for c in second.rows[1].cells]
    assert len(_summary.tables(RESULTS[-2:])) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.2134, "0.213"), (27.94, "27.9"), (1234.4, "1234"), (99.96, "100.0"), (1e-12, "0.000000000")],
)
def test_numbers_keep_three_digits_and_no_exponent(value: float, text: str):
    assert _table.number(value) == text


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_terminal_keeps_to_its_width_and_cuts_no_number(width: int):
    table = _measured.measured(RESULTS)
    assert max(map(cell_len, terminal.render(RESULTS, title="x", width=width).splitlines())) <= width
    text = terminal.show([table], title="x", width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    numbers = [c.full for row in table.rows for c, k in zip(row.cells, table.columns, strict=True) if k.numeric]
    assert [n for n in numbers if n not in text] == []


def test_no_text_steers_the_terminal():
    case = Case(model="a\x1b[31m/b\x07", data="x\x1b]0;title\x07")
    failed = Result(case=case, status="failed", started="", seconds=0.0, error="\x1b[2Jgone")
    for kind in ("terminal", "markdown", "latex"):
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", str(reports.render([failed], kind))), kind


def test_every_line_of_a_markdown_table_has_the_same_cells():
    lines = [line for line in markdown.render(RESULTS, title="x").splitlines() if line.startswith("|")]
    pipes = {len(re.findall(r"(?<!\\)\|", line)) for line in lines[: len(RESULTS) + 2]}
    assert pipes == {len(_measured.measured(RESULTS).columns) + 1}


def test_markdown_escapes_markup():
    assert markdown.escape("a|b\nc_d _e_ <i> `x` *y* [z](u)") == (r"a\|b c_d \_e\_ &lt;i> \`x\` \*y\* \[z\](u)")


def test_latex_escapes_every_special_character():
    assert latex.escape("50% & $x_{1}$ #2 ~^ \\ <a|b> --fresh 4×3 µ") == (
        r"50\% \& \$x\_\{1\}\$ \#2 \textasciitilde{}\textasciicircum{} \textbackslash{} "
        r"\textless{}a\textbar{}b\textgreater{} -{}-fresh 4$\times$3 $\mu$"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path):
    ascii_only = [r for r in RESULTS if r.case.data.isascii()]
    body = latex.render(ascii_only, title=r"100 % of #1 & ~\_{x}^ <b>")
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}"
    (tmp_path / "t.tex").write_text(rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}")
    line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


def test_csv_carries_every_number_in_full():
    rows = list(csv.DictReader(io.StringIO(str(reports.render(RESULTS, "csv")))))
    assert len(rows) == len(RESULTS)
    for row, result in zip(rows, RESULTS, strict=True):
        assert (row["case_id"], row["model"], row["error"]) == (result.case_id, result.case.model, result.error)
        for name, metric in result.metrics.items():
            assert float(row[name]) == metric.value
            for end, bound in (("low", metric.low), ("high", metric.high)):
                assert row[f"{name}_{end}"] == ("" if bound is None else str(bound))


# ---- repeating a case


@pytest.mark.parametrize(
    "case",
    [
        Case(model="tsm/micro"),
        Case(model="we\"ird'\\ name", data="a b/ü.parquet", device="cuda", precision="bf16", batch=8, fingerprint="f"),
        Case(
            model="tsm/micro",
            recipe=Recipe(epochs=3, milestones=(1, 2), lr_rules=((r"^head\.", 5.0),)),
            views=Views(clips=4, crops=3),
            clip=Clip(frames=4),
            metrics=("accuracy",),
        ),
    ],
)
def test_the_command_repeats_the_case(case: Case):
    text = _reproduce.command(case, case.case_id)
    head, python, tail = re.split(r"^cat > .*<<'EOF'\n|^EOF\n", text, flags=re.MULTILINE)
    names: dict[str, object] = {}
    exec(python, names)
    assert names["CASE"] == dataclasses.replace(case, fingerprint="")
    assert tail.startswith(f"reelbench run case_{case.case_id}.py --device {case.device}")
    assert head == ""


# ---- the table of a paper


def test_a_papers_table_sets_published_rows_beside_measured_ones():
    rows = paper.table(RESULTS).rows
    text = str(reports.render(RESULTS, "paper", title="Example"))
    assert [c.header for c in paper.COLUMNS][:4] == ["model", "pre-train", "top-1", "top-5"]
    assert len([row for row in rows if row.case_id]) == len(RESULTS)
    beside = Published(
        model="tsm/micro", dataset="K400", source="README", top1=70.0, gflops=33.0, params_m=24.3, views="10x3",
        pretrain="ImageNet-1K",
    )  # fmt: skip
    mine = dataclasses.replace(
        measured(1.5, samples=(1.0, 2.0)), published=(beside, dataclasses.replace(beside, model="tsm/r50_8f"))
    )
    table = paper.table([mine, mine])
    assert [bool(row.case_id) for row in table.rows] == [True, False, True]
    shown = {c.name: cell for c, cell in zip(paper.COLUMNS, table.rows[1].cells, strict=True)}
    assert (shown["gflops"].text, shown["views"].text, shown["pretrain"].text) == ("33 × 10×3", "10×3", "ImageNet-1K")
    assert shown["latency_ms"].value is None
    assert table.notes == ("published for K400: README",)
    assert text.count(r"\begin{tabular}") == 1
