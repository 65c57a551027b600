"""The measuring loop, on a fake clock: what a sample holds, when it stops, when it warns."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import psutil
import pytest
import torch
from reelbench.harness.measuring import machine, timing
from reelbench.harness.measuring import phases as clocks
from reelbench.harness.measuring.timing import Budget
from reelbench.harness.metrics import end_to_end, throughput
from reelbench.intervals import serial_quantile
from reelbench.spec import Case, Views


class Clock:
    """Time that passes only while a step runs."""

    def __init__(self, durations):
        self.now, self.durations = 0.0, iter(durations)

    def step(self) -> None:
        self.now += next(self.durations)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    def start(durations) -> Clock:
        made = Clock(durations)
        monkeypatch.setattr(timing.time, "perf_counter", lambda: made.now)
        return made

    return start


def test_a_sample_is_one_step(clock):
    assert timing.timed(clock([0.25]).step, "cpu") == 0.25


def test_warm_up_ends_when_steps_stop_getting_faster(clock):
    fake = clock(itertools.chain([9, 5, 3, 2, 1.5, 1.2], itertools.repeat(1.0)))
    assert timing.warm_up(fake.step, "cpu", limit=1000) == (
        12,
        True,
    )  # the last three are no faster than the three before: 1, 1, 1 after 1, 1, 1


def test_a_steady_step_stops_at_the_least_time(clock):
    fake = clock(itertools.repeat(0.125))
    taken = timing.samples(fake.step, "cpu", Budget(min_seconds=2.0, max_seconds=100.0))
    assert len(taken) == 16


def test_a_noisy_step_stops_at_the_most_time(clock):
    fake = clock(itertools.chain([1.0] * 6, itertools.cycle([0.5, 1.5, 1.0, 2.0])))
    taken = timing.samples(fake.step, "cpu", Budget(min_seconds=1.0, max_seconds=20.0, precision=0.001))
    assert 20.0 <= sum(taken) < 22.5


def test_a_slow_step_is_timed_until_its_median_has_an_interval(clock):
    taken = timing.samples(clock(itertools.repeat(60.0)).step, "cpu", Budget(max_seconds=3.0))
    assert len(taken) == 6
    assert timing.summary(taken, "s").low == 60.0


def test_a_noisy_median_warns_and_a_steady_one_does_not():
    assert timing.summary([1.0, 2.0, 3.0, 4.0, 5.0, 6.0] * 2, "ms").warning
    assert not timing.summary([1.0, 1.01, 0.99] * 5, "ms").warning
    assert timing.summary([1.0, 1.0], "ms").warning


def test_warm_up_that_never_settles_ends_at_its_limit(clock):
    fake = clock(1000 * 0.9**i for i in range(200))
    calls, steady = timing.warm_up(fake.step, "cpu", limit=5000)
    assert (calls, steady) == (7, False)


def test_what_a_measurement_spent_is_told_apart(clock):
    taken = timing.take(clock(itertools.repeat(0.125)).step, "cpu", Budget(min_seconds=2.0, max_seconds=100.0))
    assert (taken.calls, taken.warm_up, sum(taken.host), taken.steady) == (6, 0.75, 2.0, True)


def test_a_percentile_needs_samples_beyond_it():
    values = [float(v) for v in range(1, 101)]
    random.Random(0).shuffle(values)  # in order, they would be one slow drift
    assert timing.percentile(values, 0.99, "ms") is None
    p90 = timing.percentile(values, 0.9, "ms")
    assert p90 is not None
    assert p90.low is not None
    assert p90.high is not None
    assert p90.low <= 90 <= p90.value <= 91 <= p90.high


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_interval_of_a_quantile_covers_it(share):
    draw = random.Random(0)
    hits, open_ended = 0, 0
    for _ in range(400):
        _, low, high = serial_quantile([draw.random() for _ in range(120)], share)
        hits += (low is None or low <= share) and (high is None or share <= high)
        open_ended += low is None or high is None  # a chance likeness of neighbors
    assert 0.93 < hits / 400 < 0.995
    assert open_ended <= 0.02 * 400


@pytest.mark.parametrize("largest", [1, 5, 17, 31])
def test_halving_the_gap_finds_the_largest_batch(largest):
    asked: list[int] = []

    def fits(batch: int) -> bool:
        asked.append(batch)
        return batch <= largest

    fitting = 2 ** (largest.bit_length() - 1)
    found = throughput.bisect(fitting, 2 * fitting, fits)
    assert largest - max(1, largest // 8) <= found <= largest
    assert len(asked) <= 4


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("full"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_batch_that_does_not_fit_ends_the_search_and_not_the_case(error):
    def step():
        raise error

    assert throughput.attempt(step) is None


def test_another_error_is_not_taken_for_a_full_memory():
    def step():
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        throughput.attempt(step)


@pytest.mark.parametrize(
    ("whole", "alone", "said"),
    [
        (95, {"decoder": 100.0, "model": 400.0}, "The decoder limits: 95 clips/s together, decoder alone 100"),
        (39, {"decoder": 100.0, "model": 40.0}, "The model limits"),
        (48, {"decoder": 50.0, "model": 300.0}, "The decoder limits: 48 clips/s together, decoder alone 50"),
        (50, {"decoder": 100.0, "model": 90.0}, "The host limits: 50 clips/s together, but model alone 90"),
        (21, {"decoder": 100.0, "model": 13.0}, "No bottleneck can be named: 21 clips/s together, more than model"),
    ],
)
def test_one_sentence_names_the_limit(whole, alone, said):
    assert end_to_end.limit(whole, alone).startswith(said)
    assert "launch" not in end_to_end.limit(whole, alone)


def test_a_model_that_limits_says_what_of_it_is_launching():
    told = ", 60% of its time is launch-bound."
    assert end_to_end.limit(39, {"decoder": 100.0, "model": 40.0}, 0.6).endswith(told)
    assert not end_to_end.limit(95, {"decoder": 100.0, "model": 400.0}, 0.6).endswith(told)
    assert not end_to_end.limit(39, {"decoder": 100.0, "model": 40.0}, 0.02).endswith(told)


def test_only_transfers_that_are_made_are_timed(monkeypatch):
    """A decoder leaves its clips on the card: from the host nothing is copied there, and no copy can limit."""
    batches = [SimpleNamespace(clip=torch.zeros(2, 3, 1, 1, 1), video=torch.tensor([0, 1])) for _ in range(5)]
    stream = SimpleNamespace(decoder="dali", epoch=lambda: batches, batch=2)
    made = SimpleNamespace(
        videos=16, views=Views(), device=SimpleNamespace(type="cuda"), timer=clocks.PhaseTimer(), notes={},
        convention="fp32", budget=Budget(max_seconds=0.01), case=Case(model="tsm/micro"), forward=lambda clip: clip,
        open_stream=lambda batch: nullcontext(stream), batches=lambda phase, stream: iter(stream.epoch()),
        time=lambda step: SimpleNamespace(host=[0.5 + 0.0 * step().numel()]), on_device=lambda clip: ([0.1], "queued"),
    )  # fmt: skip
    monkeypatch.setattr(timing, "synchronize", lambda device: None)
    end_to_end.measure(made)  # type: ignore[arg-type]
    assert set(made.notes["alone_clips_s"]) == {"decoder", "model"}


def test_a_gpu_that_was_slowed_down_says_why():
    calm = {"sm_clock_mhz": 1980, "temperature_c": 60, "power_w": 500.0, "reasons": 0x04, "others": 0}
    hot = {**calm, "sm_clock_mhz": 1200, "temperature_c": 90, "reasons": 0x24, "others": 1}
    found = machine.summary([calm, calm, hot])
    assert found["sm_clock_mhz"] == [1200, 1980, 1980]
    assert found["reasons"] == ["power cap", "too hot"]
    assert found["slowed"] == ["too hot"]
    assert found["other_users"] == 1
    assert machine.disturbances({**found, "others_cpu": 0.3}, "cuda") == ["too hot", "the GPU has other users"]
    assert machine.disturbances({**machine.summary([calm]), "others_cpu": 0.0}, "cuda") == []


def test_watching_a_cpu_tells_its_load():
    with machine.watch(torch.device("cpu")) as found:
        pass
    assert found["load_after"] >= 0
    assert "sm_clock_mhz" not in found
    before, after = found["calibration_ms"]
    assert min(before, after) > 0
    assert machine.slowed(found, max(before, after)) == []
    assert machine.slowed(found, max(before, after) / 1.5) == [
        "the machine itself ran 1.50 times slower than at its best"
    ]


def test_cores_that_others_use_disturb_and_our_own_do_not():
    """A process that is not ours counts, by the time it had, and our own work does not, however busy the machine is."""
    stranger = psutil.Process(_stranger())
    theirs, ours, begin = sum(stranger.cpu_times()[:2]), machine._own_seconds(), time.monotonic()
    with machine.watch(torch.device("cpu")) as found:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        theirs, wall = sum(stranger.cpu_times()[:2]) - theirs, time.monotonic() - begin
    assert machine._own_seconds() - ours > 0.25
    stranger.kill()
    assert found["others_cpu"] * wall * os.cpu_count() > theirs / 2 - 0.05
    assert machine.disturbances({"others_cpu": 0.2}, "cpu") == ["others used 20% of the cores"]
    assert machine.disturbances({"others_cpu": 0.05}, "cpu") == []


def _stranger() -> int:
    """Start a busy process that is no child of ours; it ends by itself if the test does not end it."""
    loop = "import time; end = time.time() + 20\nwhile time.time() < end: pass"
    start = f"Popen([sys.executable, '-c', {loop!r}], stdout=DEVNULL, stderr=DEVNULL)"
    line = [sys.executable, "-c", f"import sys; from subprocess import *; print({start}.pid)"]
    return int(subprocess.run(line, capture_output=True, text=True, check=True, timeout=30).stdout)
