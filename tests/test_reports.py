"""Reports: stored results (invented numbers of a plausible size), expected text for each format, and their properties.

The expected texts stand in tests/golden/results; a change of a format shows as a difference there. Case ids are
replaced, because they change with every field that a case gains.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import math
import random
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from matplotlib.text import Text
from reelbench import reports
from reelbench.harness.errors import UserError
from reelbench.harness.result import Metric, Result
from reelbench.harness.spec import Case, Clip, Published, Recipe, Views
from reelbench.harness.statistics import median_interval, wilson
from reelbench.reports import _reproduce, _stats, _table, compare, figure, latex, markdown, paper, terminal
from reelbench.reports._points import plot
from rich.cells import cell_len

GOLDEN = Path(__file__).parent / "golden" / "results"
RESULTS = [Result.from_json(line) for line in (GOLDEN / "results.jsonl").read_text(encoding="utf-8").splitlines()]
WIDTH = 140


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())


def anonymous(text: str) -> str:
    for i, result in enumerate(RESULTS):
        text = text.replace(result.case_id, f"case{i:08}")
    return text


def measured(value: float, *, name: str = "latency_ms", model: str = "tsm/micro", **fields: object) -> Result:
    metric = Metric(value=value, unit="ms", **fields)  # type: ignore[arg-type]
    return Result(
        case=Case(model=model), status="ok", started="2026-01-05T10:00:00", seconds=1.0, metrics={name: metric}
    )


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
    assert reports.formats() == ["csv", "figure", "html", "latex", "markdown", "paper", "terminal"]


@pytest.mark.parametrize("kind", ["csv", "html", "latex", "markdown", "terminal"])
def test_every_case_is_in_every_text(kind: str):
    text = reports.render(RESULTS, kind)
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
    table = _table.measured(RESULTS[:5])
    names = [c.name for c in table.columns]
    assert names[:2] == ["model", "top1"]
    assert names[-1] == "case_id"
    assert "status" not in names
    assert "synthetic · Example CPU @ 2.50GHz, 2 cores · cpu · fp32" in table.caption
    assert "precision" in [c.name for c in _table.measured(RESULTS).columns]


def test_a_clip_of_its_own_is_named():
    plain = measured(1.0)
    longer = dataclasses.replace(plain, case=dataclasses.replace(plain.case, clip=Clip(frames=16, stride=4)))
    table = _table.measured([plain, longer])
    assert table.columns[1].name == "clip"
    assert [row.cells[1].text for row in table.rows] == ["own clip", "16x4, 224²"]
    assert "clip" not in _table.measured([plain]).caption
    assert "clip 16x4, 224²" in _table.measured([longer]).caption


def test_a_metric_that_no_table_knows_gets_a_column():
    table = _table.measured([measured(3.25, name="decibels")])
    assert [c.label for c in table.columns] == ["model", "decibels (ms)", "case"]
    assert table.rows[0].cells[1].text == "3.25"


def test_gflops_are_per_view_times_views():
    view, video = (Metric(value=v, unit="GFLOPs") for v in (7.05, 84.6))
    known = measured(1.0)
    known = dataclasses.replace(known, metrics={"gflops_view": view, "gflops_video": video})
    named = dataclasses.replace(known, case=dataclasses.replace(known.case, views=Views(clips=4, crops=3)))
    texts = [[c.text for c in row.cells[1:3]] for row in _table.measured([known, named]).rows]
    assert texts == [["7.05 × 12", "84.6"], ["7.05 × 4×3", "84.6"]]


def test_warnings_and_differing_conventions_are_footnotes():
    rows = [measured(1.0, convention="batch 1", warning="hot"), measured(2.0, convention="batch 2", warning="hot")]
    table = _table.measured(rows)
    assert table.notes == ("hot", "batch 1", "batch 2")
    assert [row.cells[1].notes for row in table.rows] == [(1, 2), (1, 3)]
    shared = _table.measured(rows[:1])
    assert shared.columns[1].notes == (1,)
    assert shared.notes == ("batch 1", "hot")


def test_an_untrained_top1_says_so():
    notes = _table.measured(RESULTS).notes
    assert "did not learn: the lower bound of top-1 is not above twice chance (12.5 %)" in notes
    assert sum("did not learn" in note for note in notes) == 1


def test_published_rows_are_apart_and_appear_once():
    first, second = _table.tables([*RESULTS, *RESULTS])
    models = {p.model for r in RESULTS for p in r.published}
    assert not models & {row.cells[0].text for row in first.rows}
    assert [row.cells[0].text for row in second.rows] == ["video_swin/t", "video_swin/b", "tsm/r50_8f", "timesformer/b"]
    assert "not measured" in second.title
    assert {"source", "dataset", "gflops_view"} <= {c.name for c in second.columns}
    assert "282 × 4×3" in [c.text for c in second.rows[1].cells]
    assert len(_table.tables(RESULTS[-2:])) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.2134, "0.213"), (27.94, "27.9"), (1234.4, "1234"), (99.96, "100.0"), (1e-12, "0.000000000")],
)
def test_numbers_keep_three_digits_and_no_exponent(value: float, text: str):
    assert _table.number(value) == text


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_terminal_keeps_to_its_width_and_cuts_no_number(width: int):
    table = _table.measured(RESULTS)
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
    assert pipes == {len(_table.measured(RESULTS).columns) + 1}


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


# ---- the figure


def test_the_figure_is_a_picture_of_its_kind(tmp_path: Path):
    for suffix, magic in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        assert figure.write(RESULTS, tmp_path / f"f{suffix}", title="x").read_bytes().startswith(magic)
    with pytest.raises(UserError, match="ends in .png, .svg, .pdf"):
        figure.write(RESULTS, tmp_path / "f.gif", title="x")
    with pytest.raises(UserError, match="nothing to plot"):
        figure.render(RESULTS[-2:], title="x")


def test_the_figure_is_the_same_every_time_and_names_its_cases():
    svg = figure.render(RESULTS, title="Räder & <b>", format="svg")
    assert svg == figure.render(RESULTS, title="Räder & <b>", format="svg")
    texts = {
        "".join(e.itertext()).strip() for e in xml.etree.ElementTree.fromstring(svg).iter() if e.tag.endswith("text")
    }
    assert {"video_swin/micro", "tsm/micro", "vivit/micro", "Räder & <b>", "Pareto front"} <= texts
    assert "dualformer/micro" not in texts  # tested on other data


def test_error_bars_are_the_intervals():
    shown = plot(RESULTS)
    assert shown is not None
    axes = figure._figure(shown, "x").axes[0]
    lines = [s for c in axes.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    for point in shown.points:
        upright = [(point.x, point.y_interval[0]), (point.x, point.y_interval[1])]
        level = [(point.x_interval[0], point.y), (point.x_interval[1], point.y)]
        assert any(np.allclose(line, upright) for line in lines)
        assert any(np.allclose(line, level) for line in lines)


def crowd(n: int) -> list[Result]:
    draw = random.Random(1)
    results = []
    for i in range(n):
        accuracy, latency = (
            Metric(value=50 + 30 * draw.random(), unit="%"),
            Metric(value=5 + 50 * draw.random(), unit="ms"),
        )
        case = Case(model=f"family{i % 5}/variant_{i}")
        metrics = {"top1": accuracy, "latency_ms": latency, "params": Metric(value=1e6 * (i + 1), unit="")}
        results.append(Result(case=case, status="ok", started="", seconds=0.0, metrics=metrics))
    return results


def test_labels_in_a_crowd_never_overlap():
    shown = plot(crowd(40))
    assert shown is not None
    drawn = figure._figure(shown, "x")
    renderer = drawn.canvas.get_renderer()  # type: ignore[attr-defined]
    labels = [t for t in drawn.axes[0].texts if isinstance(t, Text)]
    boxes = [t.get_window_extent(renderer) for t in labels]
    assert len(boxes) > 20
    assert not [1 for a, b in itertools.combinations(boxes, 2) if a.shrunk(0.99, 0.9).overlaps(b.shrunk(0.99, 0.9))]
    front = {shown.points[i].model for i in figure._front_indices(shown)}
    assert front <= {t.get_text() for t in labels}


# ---- statistics


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_meets_newcombes_table(successes: int, n: int, low: float, high: float):
    """R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998)."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_share_and_is_symmetric(drawn: tuple[int, int]):
    successes, n = drawn
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_share(successes: int, n: int):
    with pytest.raises(ValueError, match="no share"):
        wilson(successes, n)


@pytest.mark.parametrize(("n", "rank"), [(5, 0), (6, 1), (8, 1), (9, 2), (20, 6), (30, 10), (100, 40)])
def test_the_median_lies_between_the_ranks_of_the_sign_test(n: int, rank: int):
    samples = list(range(1, n + 1))
    random.Random(n).shuffle(samples)
    expected = (rank, n + 1 - rank) if rank else (None, None)
    assert median_interval(samples) == ((n + 1) / 2, *expected)
    if rank:
        tail = sum(math.comb(n, i) for i in range(rank))
        assert 2 * tail / 2**n <= 0.05 < 2 * (tail + math.comb(n, rank)) / 2**n


def test_no_samples_have_no_median():
    with pytest.raises(ValueError, match="no samples"):
        median_interval([])


def exhaustive_p(a: list[float], b: list[float]) -> float:
    """The share of all splits of the pooled samples that are at least as uneven."""
    pooled = [*a, *b]
    middle = len(a) * len(b) / 2

    def wins(chosen: tuple[int, ...]) -> float:
        left = [pooled[i] for i in chosen]
        right = [pooled[i] for i in range(len(pooled)) if i not in chosen]
        return sum((x > y) + (x == y) / 2 for x in left for y in right)

    splits = list(itertools.combinations(range(len(pooled)), len(a)))
    observed = abs(wins(tuple(range(len(a)))) - middle)
    return sum(abs(wins(split) - middle) >= observed - 1e-9 for split in splits) / len(splits)


@given(st.lists(st.integers(0, 10**6), min_size=7, max_size=9, unique=True), st.integers(2, 5))
def test_the_exact_rank_test_counts_all_splits(values: list[int], cut: int):
    a, b = [float(v) for v in values[:cut]], [float(v) for v in values[cut:]]
    assert _stats.mann_whitney(a, b) == pytest.approx(exhaustive_p(a, b))


def test_the_rank_test_with_ties_is_near_the_exhaustive_one():
    a, b = [1.0, 2, 2, 3, 3, 4, 5], [2.0, 3, 4, 4, 5, 6, 6]
    assert _stats.mann_whitney(a, b) == pytest.approx(exhaustive_p(a, b), abs=0.02)
    assert _stats.mann_whitney([2.0] * 5, [2.0] * 9) == 1.0
    assert _stats.smallest_p(4, 4) == pytest.approx(_stats.mann_whitney([1, 2, 3, 4], [5, 6, 7, 8]))


def test_the_normal_approximation_is_near_the_exact_test(monkeypatch: pytest.MonkeyPatch):
    draw = random.Random(5)
    a, b = ([draw.gauss(mean, 1) for _ in range(30)] for mean in (0, 0.5))
    exact = _stats.mann_whitney(a, b)
    monkeypatch.setattr(_stats, "EXACT", 0)
    assert _stats.mann_whitney(a, b) == pytest.approx(exact, abs=0.001)
    assert _stats.mann_whitney(b, a) == pytest.approx(exact, abs=0.001)


@pytest.mark.parametrize("n", [8, 12, 40])
def test_the_interval_of_a_ratio_covers(n: int):
    draw = random.Random(n)
    covered = 0
    for _ in range(400):
        a, b = ([math.exp(draw.gauss(mean, 0.1)) for _ in range(n)] for mean in (0, 0.2))
        ratio, low, high = _stats.ratio_interval(a, b)
        assert low <= ratio <= high
        covered += low <= math.exp(0.2) <= high
    assert covered >= 0.92 * 400


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert _stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert _stats.holm([]) == []
    assert _stats.holm([0.6, 0.9]) == [1.0, 1.0]


def test_cliffs_delta_goes_from_none_to_all():
    assert _stats.effect_size([1, 2], [3, 4]) == 1
    assert _stats.effect_size([3, 4], [1, 2]) == -1
    assert _stats.effect_size([1, 2], [1, 2]) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30), st.booleans(), st.booleans())
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]], lower_x: bool, higher_y: bool):
    def beats(p: tuple[int, int], q: tuple[int, int]) -> bool:
        x = q[0] - p[0] if lower_x else p[0] - q[0]
        y = p[1] - q[1] if higher_y else q[1] - p[1]
        return x >= 0 and y >= 0 and (x > 0 or y > 0)

    front = _stats.pareto([(float(x), float(y)) for x, y in points], lower_x=lower_x, higher_y=higher_y)
    assert sorted(front) == [i for i, q in enumerate(points) if not any(beats(p, q) for p in points)]


# ---- comparing


def verdicts(a: list[Result], b: list[Result]) -> list[str]:
    table = compare.compare(a, b)
    column = [c.name for c in table.columns].index("verdict")
    return [row.cells[column].text for row in table.rows]


def sampled(scale: float, *, name: str = "latency_ms", seed: int = 0, n: int = 60) -> Result:
    draw = random.Random(seed)
    samples = tuple(scale * math.exp(draw.gauss(0, 0.02)) for _ in range(n))
    return measured(sorted(samples)[n // 2], name=name, samples=samples)


def test_a_run_against_itself_shows_no_difference():
    assert set(verdicts(RESULTS, RESULTS)) <= {"no difference", "equal"}


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("latency_ms", 0.8, "faster"),
        ("latency_ms", 1.25, "slower"),
        ("throughput_clips_s", 1.25, "faster"),
        ("throughput_clips_s", 0.8, "slower"),
        ("energy_j_clip", 1.25, "higher"),
        ("latency_ms", 1.03, "no difference"),  # real within these two runs, but runs vary that much
    ],
)
def test_a_difference_is_called_by_its_name(name: str, scale: float, expected: str):
    assert verdicts([sampled(1, name=name)], [sampled(scale, name=name, seed=1)]) == [expected]


def test_several_runs_a_side_are_rounds_and_need_no_margin():
    before = [measured(100 + i / 10) for i in range(8)]
    after = [measured(103 + i / 10) for i in range(8)]
    assert verdicts(before, after) == ["slower"]
    assert verdicts(before[:3], after[:3]) == ["too few rounds to tell"]


def test_the_ratio_is_b_over_a():
    table = compare.compare([sampled(10)], [sampled(20, seed=1)])
    cell = table.rows[0].cells[[c.name for c in table.columns].index("ratio")]
    assert cell.value == pytest.approx(2, rel=0.02)
    assert re.fullmatch(r"\[1\.9\d\d, 2\.0\d\d\]", cell.interval)


def test_counts_and_accuracies_are_judged_without_samples():
    assert verdicts([measured(5, name="params")], [measured(5, name="params")]) == ["equal"]
    assert verdicts([measured(5, name="params")], [measured(6, name="params")]) == ["higher"]
    assert verdicts([measured(5, name="memory_resident_mib")], [measured(6, name="memory_resident_mib")]) == [
        "not tested: one value a side"
    ]
    a, b, c = (
        measured(v, name="top1", low=v - 4, high=v + 4)
        for v in (60.0, 62.0, 75.0)
    )  # fmt: skip
    assert verdicts([a], [b]) == ["no difference"]
    assert verdicts([a], [c]) == ["better"]
    assert verdicts([c], [a]) == ["worse"]


def test_cases_match_by_model_where_their_ids_differ():
    a, lonely = sampled(1), measured(1.0, model="vivit/b")
    b = dataclasses.replace(sampled(1, seed=1), case=Case(model="tsm/micro", precision="bf16"))
    table = compare.compare([a, lonely], [b])
    assert [row.case_id for row in table.rows] == [b.case_id]
    assert "tsm/micro is another case in B: precision fp32 -> bf16" in table.notes
    assert f"Only in A: vivit/b ({lonely.case_id})" in table.notes
    with pytest.raises(UserError, match="no measured case in common"):
        compare.compare([lonely], [b])


def test_false_alarms_are_rarer_than_one_report_in_twenty():
    """Two hundred reports of six metrics each, nothing ever different: a report alarms in at most 5 %."""
    draw = random.Random(0)
    names = ["latency_ms", "throughput_clips_s", "train_clips_s", "step_ms", "decode_clips_s", "energy_j_clip"]

    def side() -> list[Result]:
        runs = []
        for _ in range(10):
            metrics = {name: Metric(value=math.exp(draw.gauss(0, 0.05)), unit="") for name in names}
            runs.append(dataclasses.replace(measured(1.0), metrics=metrics))
        return runs

    alarms = sum(set(verdicts(side(), side())) != {"no difference"} for _ in range(200))
    assert alarms <= 17  # 5 % of 200, and two standard deviations


def test_a_comparison_renders_within_the_width():
    text = compare.render(RESULTS, RESULTS, width=100)
    assert max(map(cell_len, text.splitlines())) <= 100
    assert "no difference" in text


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
