"""How well a training uses more ranks: its clips/s, as a fraction of the ranks times those of one rank.

It is added to the results of cases that differ in their ranks only: with the same global batch (strong scaling), or
with the same batch per rank (weak scaling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..result import Metric, Result
from ..spec import Case

EFFICIENCY = "scaling_efficiency"
RATE = "train_clips_s"


def scaled(results: Sequence[Result]) -> list[Result]:
    """Return the results, those of several ranks with their efficiency where one rank has trained alike.

    The interval is that of both rates at their ends, so wider than one of the ratio.
    """
    alone = {(r.case, r.machine): r for r in results if r.case.ranks == 1 and RATE in r.metrics}
    return [_with_efficiency(r, alone) if r.case.ranks > 1 and RATE in r.metrics else r for r in results]


def _with_efficiency(result: Result, alone: dict[tuple[Case, str], Result]) -> Result:
    case, recipe = result.case, result.case.recipe
    if recipe is None:
        return result
    bases = {"strong": case, "weak": replace(case, recipe=replace(recipe, batch=max(1, recipe.batch // case.ranks)))}
    for kind, base in bases.items():
        found = alone.get((replace(base, ranks=1), result.machine))
        if found is not None:
            metric = _efficiency(result.metrics[RATE], found, case.ranks, kind)
            return replace(result, metrics={**result.metrics, EFFICIENCY: metric})
    return result


def _efficiency(several: Metric, one: Result, ranks: int, kind: str) -> Metric:
    rate, batch = one.metrics[RATE], one.case.recipe.batch if one.case.recipe else 0
    bounds = (several.low, rate.high), (several.high, rate.low)
    low, high = (None if a is None or b is None else a / (ranks * b) for a, b in bounds)
    return Metric(
        value=several.value / (ranks * rate.value), unit="", low=low, high=high, better="higher",
        convention=f"{kind} scaling, {ranks} ranks, against 1 rank at global batch {batch} ({one.case_id})",
        warning="; ".join(filter(None, (several.warning, rate.warning))), flags=several.flags | rate.flags,
    )  # fmt: skip
