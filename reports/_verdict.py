"""What the results say, in at most six sentences that are made from the numbers: the opening of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..result import Result
from . import _flags
from ._calibration import states
from ._compact import ANSWERS
from ._difference import ALPHA
from ._measured import differing
from ._pairs import Pair, groups, pairs
from ._points import Plot, Point, fronts, open_points, plot
from ._table import COLUMNS, SETTINGS, Column, number, printable

MOST = 6  # sentences
NAMED, GROUPS, FEW = 9, 2, 3  # cases and groups of cases that a sentence names; of more in doubt it tells the number
TIMES = ("latency_ms", "throughput_clips_s", "end_to_end_clips_s", "decode_clips_s")


def sentences(results: Sequence[Result]) -> list[str]:
    """Return at most `MOST` sentences, the same ones for the same results; none without a number behind it."""
    names = _names(results)
    shown = plot(results)
    timed = next((COLUMNS[name] for name in TIMES if sum(name in r.metrics for r in results) > 1), None)
    accuracy = shown.y if shown and not shown.points[0].published else COLUMNS["top1"]
    found = [
        _front(shown, results, names) if shown and len(shown.points) > 1 else "",
        _differences(results, names, timed) if timed else "",
        _differences(results, names, accuracy),
        _views(results, names),
        _limit(results),
        _doubts(results, names),
    ]
    return [printable(text) for text in found if text][:MOST]


def _names(results: Sequence[Result]) -> list[str]:
    """Return the name of each case: its model, with the settings by which cases of one model differ."""
    settings = [name for name in differing(results) if name not in ("data", "seed")]
    counts = Counter((r.case.label, r.case.data) for r in results)
    return [
        f"{r.case.label} ({', '.join(SETTINGS[name](r) or '–' for name in settings)})"
        if settings and counts[r.case.label, r.case.data] > 1
        else r.case.label
        for r in results
    ]


def _front(shown: Plot, results: Sequence[Result], names: Sequence[str]) -> str:
    """Return who is on the Pareto front, with both numbers, and for whom the intervals leave that open."""
    name = {(r.case_id, r.machine): text for r, text in zip(results, names, strict=True)}

    def told(points: Sequence[Point], numbers: bool) -> str:
        texts = [
            name[p.case_id, p.machine] + (f" {_plain(p.y, shown.y)} at {_plain(p.x, shown.x)}" if numbers else "")
            for p in points
        ]
        return _listed(texts)

    front = fronts(shown)[0]
    unsure = open_points(shown)
    source = f" published for {shown.data}" if front[0].published else ""
    left = f"; the intervals leave it open for {told(unsure, False)}" if unsure else ""
    what = f"{shown.y.header.removesuffix(' (published)')}{source} over {shown.x.header}"
    return f"On the Pareto front of {what}, from fast to accurate: {told(front, True)}{left}."


def _plain(value: float, column: Column) -> str:
    return f"{number(value, column.decimals)} {column.unit or 'GFLOPs'}"


def _differences(results: Sequence[Result], names: Sequence[str], column: Column) -> str:
    """Return how many pairs differ in a number, the closest of them, and which cases are not told apart."""
    found = [pair for pair in pairs(results, column) if pair.finding != "untested"]
    if not found:
        return ""
    real = [pair for pair in found if pair.finding == "differ"]
    doubtful = sum(pair.finding == "doubtful" for pair in found)
    closest = f", the closest {_pair(real[0], names, column)}" if real else ""
    header = column.header[0].upper() + column.header[1:]
    parts = [f"{header}: of {len(found)} pairs {len(real)} differ (corrected p < {ALPHA:g}){closest}"]
    alike = [f"({_listed([names[i] for i in group])})" for group in groups(results, column, found)]
    if alike:
        parts.append(f"not told apart: {_listed(alike, GROUPS)}")
    if doubtful:
        parts.append(f"in doubt, as the machine changed: {doubtful}")
    return f"{'; '.join(parts)}."


def _pair(pair: Pair, names: Sequence[str], column: Column) -> str:
    both = f"{names[pair.low]} and {names[pair.high]}"
    unit, digits = (" points", 1) if column.kind == "share" else ("×", 2)
    size = f"{pair.size:+.{digits}f}" if column.kind == "share" else f"{pair.size:.{digits}f}"
    bounds = f" [{pair.interval[0]:.{digits}f}, {pair.interval[1]:.{digits}f}]" if pair.interval else ""
    p = "" if pair.p is None else ", p < 0.001" if pair.p < 0.001 else f", p {pair.p:.2g}"
    return f"{both} ({size}{unit}{bounds}{p})"


def _views(results: Sequence[Result], names: Sequence[str]) -> str:
    """Return what the views of a video buy the most accurate case that was tested with several numbers of them."""
    found = [(r.details.get("view_budget", []), name) for r, name in zip(results, names, strict=True)]
    tested = [(rows, name) for rows, name in found if len(rows) > 1]
    if not tested:
        return ""
    rows, name = max(tested, key=lambda item: max(row["accuracy"] for row in item[0]))
    first, before, last = rows[0], rows[-2], rows[-1]
    gain, step = last["accuracy"] - first["accuracy"], last["accuracy"] - before["accuracy"]
    told = (
        f"{last['views']} views instead of {first['views']} change the accuracy of {name} by {gain:+.1f} points "
        f"({first['accuracy']:.1f} to {last['accuracy']:.1f} %) for {last['count'] / first['count']:.3g} times the cost"
    )
    beyond = f", those beyond {before['views']} by {step:+.1f}" if len(rows) > 2 else ""
    return f"{told}{beyond}."


def _limit(results: Sequence[Result]) -> str:
    """Return what limits most cases from files to logits, or how fast decoding is beside the model, and the waiting."""
    said = [text for r in results if (text := r.details.get("limit", "")).startswith("The ")]
    if said:
        part, count = Counter(text.split()[1] for text in said).most_common(1)[0]
        example = next(text for text in said if text.split()[1] == part).partition(": ")[2]
        return f"From files to logits, the {part} limits {count} of {len(said)} cases: {example}"
    both = [r for r in results if {"decode_clips_s", "throughput_clips_s"} <= r.metrics.keys()]
    parts = [_decoding(both)] if both else []
    waits = [100 * r.metrics["data_wait_fraction"].value for r in results if "data_wait_fraction" in r.metrics]
    parts += [f"training waits for data {_range(waits)} % of its time"] if waits else []
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _decoding(results: Sequence[Result]) -> str:
    decoded, alone = ([r.metrics[name].value for r in results] for name in ("decode_clips_s", "throughput_clips_s"))
    slower = sum(a < b for a, b in zip(decoded, alone, strict=True))
    speeds = f"decoding ({_range(decoded)} clips/s) is slower than the model alone ({_range(alone)})"
    return f"{speeds} in {slower} of {len(results)} cases, and limits these from files to logits"


def _range(values: Sequence[float]) -> str:
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def _doubts(results: Sequence[Result], names: Sequence[str]) -> str:
    """Return what makes the numbers of the report's first table doubtful, in one sentence with the remedy."""
    shown = {*ANSWERS, ""}
    letters = [{flag.letter for flag in row if flag.number in shown} for row in _flags.flags(results)]

    def those(letter: str) -> list[str]:
        return [name for name, row in zip(names, letters, strict=True) if letter in row]

    disturbed, unsteady = those(_flags.LETTERS["machine_disturbed"]), those(_flags.LETTERS["unsteady"])
    failed = [name for name, r in zip(names, results, strict=True) if r.status != "ok"]
    reasons = [
        (disturbed, f"a disturbed machine{_slower(results)}"),
        (unsteady, "an interval wider than ±5 %"),
        (those(_flags.UNLEARNED), "not learning"),
        (those(_flags.STALE), "other code or versions than the newest"),
        (failed, "not finishing"),
    ]
    parts = [f"{_some(cases, len(results))} for {reason}" for cases, reason in reasons if cases]
    remedy = "; measure again when the machine is quiet, with --interleave" if disturbed or unsteady else ""
    return f"Doubtful: {', '.join(parts)}{remedy}." if parts else ""


def _some(cases: Sequence[str], count: int) -> str:
    return _listed(cases) if len(cases) <= FEW else f"{len(cases)} of {count} cases"


def _slower(results: Sequence[Result]) -> str:
    """Return how much the fixed workload of the calibration varied, in words; "" without calibrations."""
    found = [ms for r in results for state in states(r) for ms in state.get("calibration_ms", ())]
    return f" (a fixed workload took {min(found):.2f} to {max(found):.2f} ms)" if found else ""


def _listed(texts: Sequence[str], most: int = NAMED) -> str:
    more = len(texts) - most
    return ", ".join([*texts[:most], *([f"{more} more"] if more > 0 else [])])
