"""A training step of every `micro` through DeepSpeed against a bare torch loop, on one CPU thread (`--benchmark-only`).

The two take turns, step by step, with the same fused optimiser; DeepSpeed's overhead is meant to stay within 10 %. Then
the scaling efficiency of two ranks: their clips/s over twice those of one rank, each rank with its own batch, decoding
included.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reelbench import models
from reelbench.harness.training import ds_config, engine, losses, run_folder, schedule
from reelbench.harness.training.job import Job
from reelbench.pipelines import synthetic
from reelbench.spec import Recipe
from reelbench.tests import ranks

FAMILIES = sorted({name.partition("/")[0] for name in models.names()})
RECIPE = Recipe(batch=8, lr=1e-3, clip_grad=1.0)
STEPS, WARM_UP, VIDEOS = 24, 6, 96
DRAW = losses.Draw(seed=0, step=0, rows=tuple(range(RECIPE.batch)))


@pytest.fixture(scope="module", autouse=True)
def world():
    before, threads = dict(os.environ), torch.get_num_threads()
    torch.set_num_threads(1)
    yield engine.connect("cpu")
    engine.disconnect()
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(before)


def batch(family: str) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    clip = models.find(f"{family}/micro").clip
    shape = (RECIPE.batch, 3, clip.frames, clip.size, clip.size)
    return models.build(f"{family}/micro", num_classes=8), torch.randn(shape), torch.arange(RECIPE.batch) % 8


def bare_step(family: str) -> Callable[[], float]:
    model, clip, label = batch(family)
    optimizer = torch.optim.AdamW(schedule.parameter_groups(model.train(), RECIPE), lr=RECIPE.lr, fused=True)

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(model(clip), label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE.clip_grad)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def engine_step(family: str, world: engine.World) -> Callable[[], float]:
    model, clip, label = batch(family)
    settings = ds_config.settings(RECIPE, micro_batch=RECIPE.batch)
    made = engine.Engine(losses.Classify(model, RECIPE, 8), RECIPE, world, settings, fused=True)
    return lambda: made.train_step([(clip, label, DRAW)], lr=RECIPE.lr, weight_decay=RECIPE.weight_decay).loss


@pytest.mark.slow  # 46 training steps a family
@pytest.mark.parametrize("family", FAMILIES)
def test_step_overhead(benchmark, family, world, capsys):
    bare, seconds = bare_step(family), []

    def before() -> None:
        begin = time.perf_counter()
        bare()
        seconds.append(time.perf_counter() - begin)

    last = benchmark.pedantic(engine_step(family, world), setup=before, warmup_rounds=3, rounds=40)
    overhead = benchmark.stats.stats.median / statistics.median(seconds[-40:]) - 1
    benchmark.extra_info.update(overhead=overhead)
    with capsys.disabled():
        print(f"\n{family}: {overhead:+.1%} to a bare step of {1e3 * statistics.median(seconds[-40:]):.1f} ms")
    assert last < 3


def clips_s(data: Path, out: Path, count: int) -> float:
    """Train `STEPS` steps in so many ranks; return the clips a second of those after the first ones."""
    name, batch = "video_swin/micro", RECIPE.batch * count
    epochs = STEPS * batch / VIDEOS
    recipe = replace(RECIPE, batch=batch, epochs=epochs, validate_epochs=epochs)
    made = Job(model=name, data=data, recipe=recipe, clip=models.find(name).clip, out=out, workers=1)
    ranks.losses(made, *ranks.bare(made, count))
    rows = run_folder.read_log(out)[WARM_UP:]
    return len(rows) * batch / sum(row["wait"] + row["compute"] for row in rows)


@pytest.mark.slow  # two trainings, the second in two processes
def test_two_ranks_scale(benchmark, tmp_path, capsys):
    made = synthetic.make(tmp_path / "data", videos=(VIDEOS, 0, 0), progress=False)
    alone = clips_s(made["train"], tmp_path / "one", 1)
    both = benchmark.pedantic(clips_s, args=(made["train"], tmp_path / "two", 2))
    benchmark.extra_info.update(clips_s_one=alone, clips_s_two=both, efficiency=both / (2 * alone))
    with capsys.disabled():
        print(f"\nscaling: {alone:.1f} clips/s by one rank, {both:.1f} by two: {both / (2 * alone):.0%} efficient")
    assert min(alone, both) > 0
