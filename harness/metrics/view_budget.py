"""`notes["view_budget"]`: top-1 (or the data set's own metric) against the cost per video, from 1x1 to 10x3 views.

GFLOPs and milliseconds cover all views of a *video*; reports add joules if `energy` was measured. The subject's own
views are among the budgets. The metric emits no number: reports draw the curve.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median

from ...result import Metric
from ...spec import Views
from ..measuring.accuracy import scores
from . import Subject, flops

BUDGETS = ("1x1", "2x1", "4x1", "1x3", "4x3", "10x3")


def measure(subject: Subject) -> dict[str, Metric]:
    """Test every video under each view budget, the cheapest first; fills `notes["view_budget"]` and returns {}."""
    own = subject.views
    asked = (Views.parse(text) for text in BUDGETS)
    budgets = {str(v): v for v in (*(replace(own, clips=v.clips, crops=v.crops) for v in asked), own)}
    with subject.timer.phase("counting"):
        gflops = flops.count(subject.model, subject.example(1))[0] / 1e9
    quick = replace(subject.budget, least=3)  # many views take minutes, and the curve shows no time intervals
    rows = []
    for name, views in sorted(budgets.items(), key=lambda item: item[1].count):
        predictions = subject.test(f"view_budget, {name}", subject.forward, views)
        found = scores(predictions, subject.num_classes, name)[predictions.main]
        clip = subject.example(views.count)
        seconds = subject.time(lambda clip=clip: subject.forward(clip), quick).host
        rows.append(
            {
                "views": name, "count": views.count, "metric": predictions.main,
                "accuracy": found.value, "low": found.low, "high": found.high,
                "gflops_video": gflops * views.count, "ms_video": 1e3 * median(seconds),
            }
        )  # fmt: skip
    subject.notes["view_budget"] = rows
    return {}
