"""`top1`, `top5`, `mean_class_accuracy` in percent of the test split: softmax averaged over views, Wilson intervals."""

from __future__ import annotations

from ..evaluate import evaluate, scores
from ..result import Metric
from . import Subject


def measure(subject: Subject) -> dict[str, Metric]:
    """Test every video once under the case's views."""
    with subject.open_stream(batch=max(1, 32 // subject.views.count)) as stream:
        predictions = evaluate(subject.forward, stream)
    subject.keep(predictions)
    found = scores(predictions, subject.num_classes, str(subject.views))
    chance = 100 / subject.num_classes
    low = found["top1"].low or 0.0
    subject.notes.update(chance=chance, learned=low > 2 * chance, videos=len(predictions.label))
    return found
