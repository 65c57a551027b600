"""What a test costs on a machine that is paid by the hour: dollars per 1,000 videos, at the measured throughput.

It is added to results when a report is made; nothing stores it, as prices change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..errors import UserError
from ..result import Metric, Result
from ..spec import Views
from ._table import views

COST = "usd_1000_videos"
RATE = "throughput_clips_s"


def priced(results: Sequence[Result], per_hour: float) -> list[Result]:
    """Return the results with the cost of 1,000 videos, all views of each, where a throughput was measured.

    Raises UserError if the price is no positive number, or no case has a throughput.
    """
    if not (per_hour > 0 and math.isfinite(per_hour)):
        raise UserError(f"--price-per-hour {per_hour:g}: must be a positive number of dollars")
    if not any(RATE in result.metrics for result in results):
        raise UserError(f"--price-per-hour: no case has a {RATE}: measure the metric `throughput`")
    return [_with_cost(result, per_hour) if RATE in result.metrics else result for result in results]


def _with_cost(result: Result, per_hour: float) -> Result:
    rate, shown = result.metrics[RATE], views(result)
    each = Views.parse(shown).count if shown else 1

    def cost(clips_s: float | None) -> float | None:
        return None if clips_s is None else per_hour / 3600 * 1000 * each / clips_s

    convention = f"{per_hour:g} $/hour, model only, {rate.convention}, {shown.replace('x', '×') or 'one'} views"
    dollars = Metric(
        value=cost(rate.value) or 0.0, unit="$", low=cost(rate.high), high=cost(rate.low), convention=convention,
        warning=rate.warning, flags=rate.flags, better="lower",
    )  # fmt: skip
    return replace(result, metrics={**result.metrics, COST: dollars})
