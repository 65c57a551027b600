"""`latency_frame_ms`: latency of one more frame of an online model, which keeps what it saw of the frames before.

For models with a `stream` whose `push` takes a frame N×3×H×W: the causal TSM. Others have no such number.
"""

from __future__ import annotations

from itertools import cycle

from ...errors import UserError
from ...result import Metric
from ..measuring import execution, timing
from . import Subject


def measure(subject: Subject) -> dict[str, Metric]:
    """Time frames at batch 1, one after the other, in the case's precision; {} if the model is none that streams.

    Only eager mode is measured: what is compiled or captured is the pass over a whole clip.
    """
    if subject.case.mode != "eager" or not hasattr(subject.model, "stream"):
        return {}
    execution.set_up(subject.case.precision, "eager", subject.device)
    model = execution.cast(subject.model, subject.case.precision).to(subject.device)
    try:
        stream = model.stream()  # type: ignore[operator]
    except UserError:  # it looks into the future
        return {}
    push = execution.in_precision(stream.push, subject.case.precision, subject.device)
    frames = cycle(subject.example(1)[0].unbind(1))
    taken = subject.time(lambda: push(next(frames)[None]))
    convention = f"batch 1, {subject.convention}, one frame of {subject.size}², model only"
    return {"latency_frame_ms": timing.summary([s * 1e3 for s in taken.host], "ms", convention)}
