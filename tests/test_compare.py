"""Comparisons: of interleaved runs, whose rounds are tested on a seeded fake clock, and of plain ones; `--fail-if`."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
from reelbench.errors import UserError
from reelbench.harness.measuring import timing
from reelbench.harness.measuring.timing import Budget
from reelbench.harness.suites import interleave, ledger
from reelbench.reports import compare
from reelbench.reports._gate import decide
from reelbench.result import Metric, Result
from reelbench.spec import Case
from reelbench.tests.examples import RESULTS, measured
from rich.cells import cell_len

BUDGET = Budget(min_seconds=0.01, max_seconds=0.05)
MODELS = ("tsm/micro", "tps/micro", "mvit/micro")


class Machine:
    """A clock on which a step takes its time, times what this run, this round and this step add by chance."""

    def __init__(self, seed: int) -> None:
        self.now, self.draw = 0.0, random.Random(seed)
        self.run = {model: self.noise(0.01) for model in MODELS}

    def noise(self, spread: float) -> float:
        return math.exp(self.draw.gauss(0, spread))

    def round(self, model: str, seconds: float) -> Metric:
        """Times one case as the harness does; a round is a hundredth slower or faster than the next."""
        pace = seconds * self.run[model] * self.noise(0.01)

        def step() -> None:
            self.now += pace * self.noise(0.03)

        taken = timing.samples(step, "cpu", BUDGET)
        return timing.summary([1e3 * s for s in taken], "ms")


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch):
    """Run three cases in eight rounds on a machine of its own; `pace` makes all of them slower."""

    def run(seed: int, pace: float = 1.0) -> list[Result]:
        machine = Machine(seed)
        monkeypatch.setattr(timing.time, "perf_counter", lambda: machine.now)
        rounds = [{m: machine.round(m, 0.001 * pace) for m in MODELS} for _ in range(8)]
        combined = {m: timing.combine([r[m] for r in rounds]) for m in MODELS}
        return [result(m, combined[m]) for m in MODELS]

    return run


def result(model: str, metric: Metric) -> Result:
    return Result(case=Case(model=model), status="ok", started="", seconds=1.0, metrics={"latency_ms": metric})


def verdicts(a: list[Result], b: list[Result]) -> list[str]:
    table = compare.compare(a, b)
    column = [c.name for c in table.columns].index("verdict")
    return [row.cells[column].text for row in table.rows]


@pytest.mark.slow  # twenty comparisons of many samples
@pytest.mark.exhaustive
def test_a_machine_against_itself_differs_in_at_most_one_report_of_twenty(suite):
    """Three hundred pairs of runs of the same suite: 5 % may alarm, and two standard deviations on top."""
    alarms = sum(set(verdicts(suite(2 * i), suite(2 * i + 1))) != {"no difference"} for i in range(300))
    assert alarms <= 22


def test_a_real_difference_is_found(suite):
    found = [text for i in range(20) for text in verdicts(suite(2 * i), suite(2 * i + 1, pace=1.1))]
    assert found.count("slower") >= 54
    assert "faster" not in found


def test_rounds_count_and_not_the_samples_in_them():
    """A thousand samples a round make two rounds no more than two rounds."""

    def drifted(scale: float) -> Result:
        samples = tuple(scale * (1 + i / 1e6) for i in range(2000))
        return result("tsm/micro", Metric(value=scale, unit="ms", samples=samples, rounds=(1000, 1000)))

    assert verdicts([drifted(1.0)], [drifted(1.2)]) == ["too few rounds to tell"]


def test_a_small_effect_is_not_called_however_sure():
    draw = random.Random(0)
    many = [
        [result("tsm/micro", Metric(value=m + draw.gauss(0, 1), unit="ms")) for _ in range(400)] for m in (20, 20.3)
    ]
    [found], _ = compare.judge(*many)
    assert found.p is not None
    assert found.p < 0.05
    assert found.text == "no difference"


def test_a_disturbed_machine_is_not_taken_for_a_difference(suite):
    before, after = suite(0), suite(1, pace=1.3)
    metric = timing.disturbed(after[0].metrics["latency_ms"], "disturbed: others used 40% of the cores")
    after[0] = dataclasses.replace(after[0], metrics={"latency_ms": metric})
    assert verdicts(before, after) == ["doubtful: the machine was disturbed", "slower", "slower"]
    assert len(decide(before, after, "slower:5%").failing) == 2


@pytest.mark.parametrize(("spoilt", "left", "doubted"), [(0, 8, False), (3, 5, False), (5, 8, True), (8, 8, True)])
@pytest.mark.parametrize("sign", [{"disturbed": ["too hot"]}, {"disturbed": [], "calibration_ms": [1.0, 1.3]}])
def test_disturbed_rounds_are_left_out_or_told(spoilt, left, doubted, sign):
    def row(number: int) -> dict:
        bad = number <= spoilt
        metric = dataclasses.asdict(Metric(value=9.0 if bad else 1.0, unit="ms", samples=(1.0, 2.0)))
        quiet = {"disturbed": [], "calibration_ms": [1.0, 1.05]}
        return {"metrics": {"latency_ms": metric}, "machine": sign if bad else quiet, "time_breakdown": {}}

    isolated = result("tsm/micro", Metric(value=5.0, unit="ms"))
    merged = interleave.merge(isolated, {n: row(n) for n in range(1, 9)}, None, best_calibration=1.0)
    found = merged.metrics["latency_ms"]
    assert len(found.rounds) == left
    assert ("machine_disturbed" in found.flags) is doubted
    assert doubted or found.value == 1.0


def on_a_machine(results, pace: float):
    state = {"disturbed": [], "calibration_ms": [pace, pace]}
    return [dataclasses.replace(r, details={**r.details, "rounds": [state] * 3}) for r in results]


@pytest.mark.parametrize(
    ("drift", "verdict"),
    [(1.0, "slower"), (1.3, "doubtful: the machine itself was 1.30 times slower"), (1.1, "slower"), (0.7, "slower")],
)
def test_what_the_machine_itself_was_slower_is_not_called(suite, drift, verdict):
    before, after = on_a_machine(suite(0), 2.0), on_a_machine(suite(1, pace=1.3), 2.0 * drift)
    assert set(verdicts(before, after)) == {verdict}
    assert bool(decide(before, after, "slower:5%").failing) is (verdict == "slower")
    back = verdict.replace("slower", "faster")
    assert set(verdicts(after, before)) == {back}


def test_fail_if_names_what_is_slower_by_that_much(suite):
    before, after = suite(0), suite(1, pace=1.3)
    lines = decide(before, after, "slower:5%").failing
    assert len(lines) == 3
    assert lines[0].startswith("tsm/micro: latency is slower by ")
    assert decide(before, after, "slower:50%").failing == ()
    assert decide(after, before, "slower:5%").failing == ()
    with pytest.raises(UserError, match="such as slower:5%"):
        decide(before, after, "slower")


def test_a_round_without_samples_counts_with_its_value():
    found = timing.combine([Metric(value=float(v), unit="ms") for v in range(1, 7)])
    assert (found.value, found.low, found.high) == (3.5, 1.0, 6.0)
    assert found.rounds == (1,) * 6
    tagged = dataclasses.replace(found, warning="")
    assert timing.combine([tagged, tagged]).rounds == (6, 6)


def test_a_build_fails_on_the_command_line(suite, tmp_path, reelbench):
    for folder, results in (("a", suite(0)), ("b", suite(1, pace=1.3))):
        for found in results:
            ledger.append(tmp_path / folder, found)

    def command(first: str, second: str, rule: str) -> tuple[int, str]:
        code, out, err = reelbench("compare", tmp_path / first, tmp_path / second, "--fail-if", rule)
        return code, out + err

    code, said = command("a", "b", "slower:5%")
    assert code == 1
    assert said.count("--fail-if slower:5%: ") == 3
    assert command("b", "a", "slower:5%")[0] == 0
    code, said = command("a", "a", "slower:1%")
    assert code == 3
    assert said.count("undecided: ") == 3
    assert reelbench("compare", tmp_path / "a", tmp_path / "b", "--metric", "top1")[0] == 2
    code, said = command("a", "b", "slow:5")
    assert code == 2
    assert "such as slower:5%" in said


# ---- runs that are not interleaved


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
    assert verdicts(before[:3], after[:3]) == ["slower"]  # a rank test could not tell, however far apart they were
    assert verdicts(before[:2], after[:2]) == ["too few rounds to tell"]


def test_what_varies_from_round_to_round_is_called_only_beyond_that():
    """Tails of a latency stray by a fifth between rounds, and no less between runs."""

    def run(scale: float) -> list[Result]:
        samples = tuple(scale * math.exp(stray) for stray in np.linspace(-0.2, 0.2, 8))
        return [measured(scale, samples=samples, rounds=(1,) * 8)]

    [barely], _ = compare.judge(run(1.0), run(1.25))
    assert barely.text == "too few rounds to tell"
    assert verdicts(run(1.0), run(1.7)) == ["slower"]


REFERENCE = Path(__file__).parent.parent / "reports" / "reference" / "cpu" / "latency" / "results.jsonl"
SCALES = {"ms": 1, "s": 1, "clips/s": -1, "frames/s": -1}  # power of a factor of times


@pytest.fixture(scope="module")
def zoo() -> list[Result]:
    """The published latencies of 26 models, mostly of three samples, some on a disturbed machine."""
    return [Result.from_json(line) for line in REFERENCE.read_text(encoding="utf-8").splitlines()]


def slowed(results: list[Result], factor: float) -> list[Result]:
    def scaled(metric: Metric) -> Metric:
        by = factor ** SCALES.get(metric.unit, 0)
        return dataclasses.replace(metric, value=metric.value * by, samples=tuple(s * by for s in metric.samples))

    return [dataclasses.replace(r, metrics={n: scaled(m) for n, m in r.metrics.items()}) for r in results]


@pytest.mark.parametrize(("factor", "word"), [(0.5, "faster"), (2.0, "slower")])
def test_a_large_suite_is_no_blindfold(zoo, factor, word):
    """Every time of 26 models is halved, or doubled: all are called, though 78 tests are corrected together."""
    found, _ = compare.judge(zoo, slowed(zoo, factor))
    called = [v.text for v in found if v.p is not None]
    assert called == [word] * 78
    gate = decide(zoo, slowed(zoo, factor), "slower:5%")
    assert (gate.code, len(gate.failing)) == ((1, 78) if word == "slower" else (0, 0))


def test_what_cannot_be_decided_is_no_pass(zoo):
    gate = decide(zoo, zoo, "slower:5%")
    assert (gate.code, gate.failing) == (3, ())
    assert any("rounds a side show" in line and "rounds would do" in line for line in gate.undecided)
    assert any("the machine changed meanwhile" in line for line in decide(zoo, slowed(zoo, 0.9), "slower:5%").undecided)


def test_a_gate_passes_if_it_can_exclude_its_percentage(suite):
    assert decide(suite(0), suite(1), "slower:10%").code == 0
    undecided = decide(suite(0), suite(1), "slower:2%")
    assert undecided.code == 3
    assert all("rounds of one run never do" in line for line in undecided.undecided)
    assert decide(suite(0), suite(1), "worse:5%").undecided == ("no metric that can be worse has two values a side",)


def test_a_question_may_be_one_metric(zoo):
    found, _ = compare.judge(zoo, slowed(zoo, 2.0), ["latency_ms"])
    assert {v.difference.column.name for v in found} == {"latency_ms"}
    assert len(decide(zoo, slowed(zoo, 2.0), "slower:5%", ["latency_ms"]).failing) == 26
    with pytest.raises(UserError, match="latency"):
        compare.judge(zoo, zoo, ["latency"])


def test_the_ratio_is_b_over_a():
    table = compare.compare([sampled(10)], [sampled(20, seed=1)])
    cell = table.rows[0].cells[[c.name for c in table.columns].index("ratio")]
    assert cell.value == pytest.approx(2, rel=0.02)
    assert re.fullmatch(r"\[1\.9\d\d, 2\.[01]\d\d\]", cell.interval)


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
