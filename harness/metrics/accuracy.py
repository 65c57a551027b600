"""`top1`, `top5` and `mean_class_accuracy`, or `map` for a multi-label set, of the test split, in percent.

Scores are averaged over views (see `measuring.accuracy`). Top-k has Wilson intervals, the others bootstrap intervals
over videos. Unreadable videos are listed in the notes.
"""

from __future__ import annotations

from ...result import Metric
from ..measuring.accuracy import scores
from . import Subject


def measure(subject: Subject) -> dict[str, Metric]:
    """Test every video once under the subject's views; keep the predictions. Raises UserError if none can be scored."""
    predictions = subject.test("accuracy", subject.forward, subject.views)
    subject.keep(predictions)
    found = scores(predictions, subject.num_classes, str(subject.views))
    subject.notes.update(videos=len(predictions.video), listed=predictions.listed)
    if predictions.broken:
        subject.notes["broken"] = [list(pair) for pair in predictions.broken]
    if "top1" in found:
        chance = 100 / subject.num_classes
        subject.notes.update(chance=chance, learned=(found["top1"].low or 0.0) > 2 * chance)
    return found
