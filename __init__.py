"""ReelBench: compare video-recognition architectures on one machine, under one protocol.

`import reelbench` imports nothing else: what it offers is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ablation import Ablation
    from .errors import UserError
    from .harness.api import evaluate, measure, run, train
    from .harness.results import Comparison, Results, compare, load_results
    from .models import build, load_checkpoint
    from .pipelines import open
    from .result import Metric, Result
    from .spec import Case, Clip, Published, Recipe, Suite, Views

__version__ = "0.1.0"
__all__ = [
    "Ablation", "Case", "Clip", "Comparison", "Metric", "Published", "Recipe", "Result", "Results", "Suite",
    "UserError", "Views",
    "build", "compare", "evaluate", "load_checkpoint", "load_results", "measure", "open", "run", "train",
]  # fmt: skip

_MODULES = {
    "ablation": ("Ablation",),
    "errors": ("UserError",),
    "harness.api": ("evaluate", "measure", "run", "train"),
    "harness.results": ("Comparison", "Results", "compare", "load_results"),
    "models": ("build", "load_checkpoint"),
    "pipelines": ("open",),
    "result": ("Metric", "Result"),
    "spec": ("Case", "Clip", "Published", "Recipe", "Suite", "Views"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'reelbench' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
