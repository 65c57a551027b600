"""What `import reelbench` offers to run, train, test and measure from Python; `results` has the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import nn

from .. import models
from ..errors import Stopped, UserError, unknown
from ..pipelines.index import Index
from ..result import Metric
from ..spec import Activation, Arithmetic, Case, Clip, Decoder, Device, Mode, ProbeKind, Recipe, Suite, Views
from . import eval, probe
from .device import resolve_device
from .progress import reporting
from .results import Results, paired
from .suites import case as cases
from .suites import ledger, load, sweep
from .training import launch
from .training.job import PATHS, Job, find_recipe
from .training.machines import Machines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from .metrics import Subject

FRESH = "startup"  # the metric that only a process of its own can measure
OWN = "the module's own weights"


class TrainOptions(TypedDict, total=False):
    """The further options of `train`: those of a `Job`, which says what they mean."""

    validation: str | Path
    out: str | Path
    workers: int
    decoder: Decoder
    seed: int
    probe: ProbeKind
    train_views: str
    init_from: str | Path
    init_from_partial: bool
    pretrained: str | Path
    annotator: str | Path
    options: Mapping[str, Any]
    deepspeed: str | Path
    offload: bool
    monitors: tuple[str, ...]
    checkpoint_activations: bool
    deterministic: bool
    resume: bool
    overwrite: bool
    keep: int
    save_steps: int
    max_skipped_steps: int


class EvaluateOptions(TypedDict, total=False):
    """The further options of `evaluate`: those of an `Evaluation`, which says what they mean."""

    views: Views
    clip: Clip
    precision: Arithmetic
    scores: Activation
    raw: bool
    batch: int
    workers: int
    decoder: Decoder
    dump: Path
    options: Mapping[str, Any]


def run(
    suite: Suite | str | Path, *, out: str | Path = "runs/latest", device: str | None = None, only: Sequence[str] = (),
    data: str | Path | None = None, fresh: bool = False, keep_stale: bool = False, rounds: int = 0,
    detect: float = 0.0, decoder: Decoder | None = None,
) -> Results:  # fmt: skip
    """Run a suite, by object, name or file, each case in a process of its own; return the results of its cases.

    `out` keeps them: finished cases are not run again unless `fresh`, or other code measured them; with `keep_stale`
    these are kept too, and marked. `only` are patterns of model names; `data` is
    another data set, `decoder` another decoder for every case. With `rounds` > 0 the cases are timed in that many
    rounds, in turns; with `detect` (0.05: 5 %) in as many as show such a difference, at most `rounds` if given.
    `device` is by default the GPU if there is one. Raises UserError as `reelbench run` does; a case that fails is a
    result.
    """
    chosen = suite if isinstance(suite, Suite) else load.load(str(suite))
    chosen = load.with_changes(chosen, data=None if data is None else str(data), decoder=decoder)
    found, _ = sweep.sweep(
        chosen, Path(out), device=resolve_device(device), only=only, fresh=fresh, keep_stale=keep_stale, rounds=rounds,
        detect=detect,
    )  # fmt: skip
    newest = {(result.case_id, result.started): result for result in found}  # some of them marked as stale
    wanted = {result.case_id for result in found}
    every = ledger.read_all(Path(out))
    chosen_rows = (newest.get((r.case_id, r.started), r) for r in every if r.case_id in wanted)
    return Results(paired(chosen_rows, Path(out)))


def measure(
    model: str | nn.Module,
    metrics: Sequence[str] = ("parameters", "flops", "memory", "latency", "throughput"),
    *,
    clip: Clip | None = None,
    views: Views | None = None,
    data: str | Path | None = None,
    device: str | None = None,
    precision: Arithmetic = "fp32",
    mode: Mode = "eager",
    batch: int = 0,
) -> dict[str, Metric]:
    """Measure a model in this process: one by name, with random weights, or a module that takes `N 3 T H W`.

    `clip` is needed for a module that `build` did not make. `data` are the videos of metrics that are shown some: an
    index, or a folder of indexes. The other arguments are those of a `Case`. A module is moved to the device, and left
    in the mode that it had. Raises UserError for `startup`, which needs a fresh process, a metric that needs videos or
    trained weights without them, or a module whose output is not `N classes`.
    """
    if FRESH in metrics:
        raise UserError(f"{FRESH} is measured in a process of its own: run a suite for it")
    module = models.build(model, clip=clip) if isinstance(model, str) else model
    case = Case(
        model=model if isinstance(model, str) else getattr(model, "variant_name", type(model).__name__),
        data=str(data), metrics=tuple(metrics), checkpoint=None if isinstance(model, str) else OWN, clip=clip,
        views=views, batch=batch, device=resolve_device(device), precision=precision, mode=mode,
    )  # fmt: skip
    shown, own_views = _input(module, clip, views)
    index = _videos(case, data)
    training = module.training
    try:
        count = _classes(module.to(case.device).eval(), shown, index)
        subject = cases.subject_of(module, case, index, clip=shown, views=own_views, num_classes=count, log=[])
        return measure_subject(subject)
    finally:
        module.train(training)


def measure_subject(subject: Subject) -> dict[str, Metric]:
    """Measure the metrics of a subject's case, with progress on standard error."""
    with reporting(subject.case.model) as subject.report:
        return cases.measured(subject)[0]


def train(
    model: str,
    data: str | Path,
    *,
    recipe: Recipe | str | None = None,
    clip: Clip | None = None,
    ranks: int = 1,
    device: str | None = None,
    **options: Unpack[TrainOptions],
) -> Path:
    """Train a model on an index through the DeepSpeed launcher; return the file of the best weights.

    Without `validation` these are the last. `recipe` is one of the model's own by name, or a `Recipe`; `clip` is by
    default the recipe's or the model's. A `probe` is trained in this process. In a process that a launcher started,
    this process is one of the ranks. Raises UserError on a bad job or if training fails, KeyboardInterrupt if it was
    interrupted.
    """
    _known(options, TrainOptions, "train")
    wants_probe = options.get("probe") is not None
    chosen = recipe if isinstance(recipe, Recipe) else find_recipe(model, recipe, probe=wants_probe)
    paths = {name: Path(value) for name, value in options.items() if name in (*PATHS, "out") and isinstance(value, str)}
    job = Job(
        model=model, data=Path(data), recipe=chosen, clip=models.choose_clip(model, chosen, clip),
        device=resolve_device(device), **{**options, **paths},
    )  # fmt: skip
    if wants_probe:
        probe.run(job, Machines(ranks=ranks))
        return job.out / probe.WEIGHTS
    try:
        code = launch.run(job, Machines(ranks=ranks))
    except Stopped:
        raise KeyboardInterrupt from None
    if code:
        raise UserError(f"training ended with exit code {code}: its output says why")
    best = job.out / "best.safetensors"
    return best if job.validation is not None and best.exists() else job.out / "last.safetensors"


def evaluate(
    model: str,
    checkpoint: str | Path,
    data: str | Path,
    *,
    device: str | None = None,
    **options: Unpack[EvaluateOptions],
) -> dict[str, Metric]:
    """Test a checkpoint on an index in this process; return the data set's metrics.

    Raises UserError as `reelbench eval` does.
    """
    _known(options, EvaluateOptions, "evaluate")
    place: Device = resolve_device(device)
    asked = eval.Evaluation(model=model, checkpoint=Path(checkpoint), data=Path(data), device=place, **options)
    return eval.evaluate_checkpoint(asked)


def _known(options: Mapping[str, Any], kind: Any, function: str) -> None:
    for name in options:
        if name not in kind.__annotations__:
            raise unknown(f"option of {function}", name, kind.__annotations__)


def _input(module: nn.Module, clip: Clip | None, views: Views | None) -> tuple[Clip, Views]:
    """Return clip and views: those given, else those of the variant that `build` made the module of."""
    name = getattr(module, "variant_name", None)
    variant = models.find(name) if name else None
    clip = clip or (variant and variant.clip)
    if clip is None:
        raise UserError("measure: a module of your own needs clip=Clip(frames=…, size=…)")
    return clip, views or (variant.views if variant else Views())


def _videos(case: Case, data: str | Path | None) -> Index | None:
    if not case.shows_videos:
        return None
    if data is None:
        raise UserError(f"measure: {', '.join(case.metrics)}: give data=, an index of videos")
    from ..pipelines import splits

    index = Index.load(splits.resolve(str(data), case.device).test)
    index.verify()
    return index


def _classes(module: nn.Module, clip: Clip, index: Index | None) -> int:
    """Return the number of classes that the module gives logits for."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        found = module(torch.zeros(1, 3, clip.frames, clip.size, clip.size, device=device))
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[0] != 1:
        raise UserError(f"measure: of one clip the model gives {shape}, not a tensor of 1×classes")
    if index is not None and shape[1] != len(index.classes):
        raise UserError(f"measure: the model gives {shape[1]} classes, the videos have {len(index.classes)}")
    return shape[1]
