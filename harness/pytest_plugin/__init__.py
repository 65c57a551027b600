"""`pytest --reelbench-suite NAME`: a suite's latency cases as pytest-benchmark tests, for a project's own CI.

    pytest --reelbench-suite latency --benchmark-json out.json
    pytest --reelbench-suite mine.py --benchmark-compare --benchmark-compare-fail=median:5%

Each case that measures latency becomes a test of its forward pass at batch 1, with random weights and input; cases
whose precision or mode the device lacks are skipped. Benchmark names do not depend on where the package is installed
and match those of `reelbench report --format benchmark`, so stored results compare across machines and with a suite's
results. pytest loads this plugin in every project (entry point `pytest11`), so heavy imports are deferred.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..device import resolve_device

TESTS = Path(__file__).with_name("latency_benchmark.py")
WARM_UP_SECONDS = 5.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--reelbench-suite` and `--reelbench-device`."""
    group = parser.getgroup("reelbench")
    group.addoption("--reelbench-suite", metavar="NAME", help="benchmark the latency cases of a suite, or of a file")
    group.addoption("--reelbench-device", metavar="DEVICE", help="cuda or cpu; the GPU where there is one")


def pytest_configure(config: pytest.Config) -> None:
    """With `--reelbench-suite`, collect the benchmark suite's latency tests instead of the project's own tests.

    Raises UsageError if pytest-benchmark is not installed.
    """
    if not config.getoption("--reelbench-suite"):
        return
    if not hasattr(config.option, "benchmark_skip"):
        raise pytest.UsageError("--reelbench-suite needs pytest-benchmark: pip install pytest-benchmark")
    config.args[:] = [str(TESTS)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the test with the suite's latency cases. Raises UsageError if suite, device or cases are lacking."""
    if "reelbench_case" not in metafunc.fixturenames:
        return
    from ...errors import UserError
    from ..suites import load

    name = str(metafunc.config.getoption("--reelbench-suite"))
    try:
        device = resolve_device(metafunc.config.getoption("--reelbench-device"))
        cases = [case for case in load.load(name).on(device) if "latency" in case.metrics]
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    if not cases:
        raise pytest.UsageError(f"suite {name} has no case that measures latency")
    from dataclasses import replace

    placed = [replace(case, device=device) for case in cases]
    metafunc.parametrize("reelbench_case", placed, ids=lambda case: case.benchmark)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add the environment to the benchmark's JSON as `reelbench`, if a suite is benchmarked."""
    if config.getoption("--reelbench-suite"):
        from ..measuring import environment

        output_json["reelbench"] = environment.collect()


@pytest.fixture
def reelbench_step(reelbench_case: Any) -> Callable[[], None]:
    """Return a warmed-up function that runs the case's forward pass at batch 1 and synchronizes the device.

    Weights and input are random. The test is skipped if the device lacks the case's precision or mode.
    """
    import torch

    from ... import models
    from ...errors import UnsupportedError
    from ..measuring import environment, timing
    from ..measuring.execution import prepare

    environment.fix_threads()
    device, views = torch.device(reelbench_case.device), reelbench_case.views or models.find(reelbench_case.model).views
    clip = models.choose_clip(reelbench_case.model, reelbench_case.recipe, reelbench_case.clip)
    size = views.size or clip.size
    model = models.build(reelbench_case.model, clip=clip, **reelbench_case.options).to(device).eval()
    try:
        forward = prepare(model, reelbench_case, device)
    except UnsupportedError as error:
        pytest.skip(str(error))
    example = torch.randn(1, 3, clip.frames, size, size, device=device)

    def step() -> None:
        forward(example)
        timing.synchronize(device)

    timing.warm_up(step, device, limit=WARM_UP_SECONDS)
    return step
