"""Results to make reports of: seven stored ones (invented numbers of a plausible size), and ones of a single metric."""

from __future__ import annotations

from pathlib import Path

from reelbench import reports
from reelbench.result import Metric, Result
from reelbench.spec import Case

GOLDEN = Path(__file__).parent / "golden" / "results"
RESULTS = [Result.from_json(line) for line in (GOLDEN / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def measured(value: float, *, name: str = "latency_ms", model: str = "tsm/micro", **fields: object) -> Result:
    """Return the result of a case whose only metric has this value."""
    metric = Metric(value=value, unit="ms", **fields)  # type: ignore[arg-type]
    return Result(
        case=Case(model=model), status="ok", started="2026-01-05T10:00:00", seconds=1.0, metrics={name: metric}
    )


def page() -> str:
    """Return the stored results as an HTML page, under a title that needs escaping."""
    text = reports.render(RESULTS, "html", title="Example <b>&amp;")
    assert isinstance(text, str)
    return text
