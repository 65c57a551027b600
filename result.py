"""Result and Metric: the outcome of a case, one JSON object per line of `results.jsonl`."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import median
from typing import Any, Literal, TypedDict, get_args

from .errors import UserError
from .metric_table import Better
from .spec import Case, Published

SCHEMA = 3  # 2: `Metric.flags`, before which a disturbed time is recognized by how its warning begins; 3: `provenance`
SLOWER = 1.2  # a calibration this many times the best one marks the measurement as disturbed
# Names in results of earlier versions -> today's: metrics of a case, then numbers and keys of `details`.
RENAMED_METRICS = {"peak": "mfu", "stall": "data_stall", "order": "frame_order", "step": "train_step"}
RENAMED_KEYS = {**RENAMED_METRICS, "peak_fraction": "mfu", "spent": "time_breakdown", "pace_ms": "calibration_ms"}
Status = Literal["ok", "failed", "oom", "timeout", "unsupported"]
Flag = Literal["machine_disturbed", "unsteady", "above_peak", "counters_disagree"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured number with its 95 % interval (`low`, `high`; None without one) and raw samples, if any, in `unit`.

    `convention` states how it was measured (batch, precision, views, …). `rounds` are the sizes of the consecutive
    groups of `samples` that each round of an interleaved run took; empty otherwise. `flags` name what makes the number
    doubtful, `warning` says the same in words. `better` is set by user-defined metrics that the metric table lacks.
    """

    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    samples: tuple[float, ...] = ()
    rounds: tuple[int, ...] = ()
    convention: str = ""
    warning: str = ""
    flags: frozenset[Flag] = frozenset()
    better: Better = ""

    @property
    def round_medians(self) -> list[float]:
        """The median of each round's samples; [] if they were not taken in rounds."""
        ends = accumulate(self.rounds)
        return [median(self.samples[end - size : end]) for size, end in zip(self.rounds, ends, strict=True)]


class MachineState(TypedDict, total=False):
    """The machine's state during a measurement (see `harness/measuring/machine.py`).

    `disturbed` lists what invalidates the measurement, in words. Loads are one-minute averages. `calibration_ms` are
    the times of a fixed workload before and after, [] on a GPU. `others_cpu` is the fraction (0..1) of the cores that
    other processes used. Of a GPU: [min, median, max] of clock, temperature and power; the throttle `reasons` seen, and
    those of them that invalidate (`slowed`); the largest number of other compute processes (`other_users`).
    """

    load_before: float
    load_after: float
    cpu_mhz: float | None
    others_cpu: float
    calibration_ms: list[float]
    sm_clock_mhz: list[float]
    temperature_c: list[float]
    power_w: list[float]
    reasons: list[str]
    slowed: list[str]
    other_users: int
    disturbed: list[str]


class TrainingSummary(TypedDict):
    """Summary of a case's training: optimizer steps, their seconds in total, and the loss of the first and the last."""

    steps: int
    seconds: float
    first_loss: float
    last_loss: float


class Details(TypedDict, total=False):
    """Everything a case records besides its metrics; a key is present only if it applies.

    Videos: `test_videos` in the index, `rejected_videos` excluded from it when it was made; in testing `listed` by the
    official list, `videos` tested, `broken` (path, reason) skipped. Training: its summary (`train`), `passed_over`
    (path, reason) skipped. Accuracy: `views`, `chance` in percent, `learned` (top-1's lower bound is above twice
    chance), and what to try if it did not (`advice`).
    Cost: `view_size` in pixels, `flops_by_operator`, `flops_unsupported_operators`, `batch_sweep`, `best_batch`,
    `largest_batch`, `view_budget`, clips/s of decoder and model on their own (`alone_clips_s`), the bottleneck in a
    sentence (`limit`), `idle_w` and `busy_w` in watts, readings that the device does not offer (`not_available`).
    Measurement: `metric_seconds`, `warm_ups_cut_short`, the `machine`'s state (one per round in `rounds`), and
    `time_breakdown`, seconds per phase. A mean over seeds has `seeds` and `cases`.
    Reports: `stale` says what has changed since a row that was kept nevertheless was measured. `suite` and
    `suite_version` asked for the case, as the named `steps` of ablations with these bases' ids. `paired`: by another
    case's id, the numbers of videos that only the base and only this case got right, of all that both were tested on,
    and how many times groups of alike videos enlarge the difference's variance; counted when results are loaded.
    """

    test_videos: int
    rejected_videos: int
    listed: int
    videos: int
    broken: list[list[Any]]
    passed_over: list[tuple[str, str]]
    train: TrainingSummary
    views: str
    chance: float
    learned: bool
    view_size: int
    advice: str
    flops_by_operator: dict[str, float]
    flops_unsupported_operators: dict[str, int]
    batch_sweep: list[dict[str, Any]]
    best_batch: int
    largest_batch: int
    view_budget: list[dict[str, Any]]
    alone_clips_s: dict[str, float]
    limit: str
    not_available: list[str]
    idle_w: float
    busy_w: float
    metric_seconds: dict[str, float]
    warm_ups_cut_short: int
    machine: MachineState
    rounds: list[MachineState]
    time_breakdown: dict[str, float]
    stale: list[str]
    suite: str
    suite_version: int
    steps: list[list[str]]
    paired: dict[str, list[float]]
    seeds: list[int]
    cases: list[str]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one case. Unless `status` is `ok`, `error` gives the reason in one line.

    `started` is UTC in ISO 8601, `seconds` the wall time. `published` holds the figures that papers print for the model
    (for a micro: for its full-size siblings). `provenance` is what measured it: a hash by source file, and versions of
    packages; {} in results of earlier versions, of which it is unknown.
    """

    case: Case
    status: Status
    started: str
    seconds: float
    metrics: dict[str, Metric] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    details: Details = field(default_factory=Details)
    published: tuple[Published, ...] = ()
    error: str = ""
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise UserError(f"result: status={self.status!r} is none of {', '.join(get_args(Status))}")

    @property
    def case_id(self) -> str:
        """The case's id: with the machine its key in the ledger and in reports; the name of its log file."""
        return self.case.case_id

    @property
    def machine(self) -> str:
        """The machine that measured it: its GPUs, or for a case on the CPU its CPU; "" if it is not recorded."""
        return machine(self.environment, self.case.device)

    def to_json(self) -> str:
        """Return the result as one line of JSON, without a newline. Raises ValueError for NaN and infinity."""
        data = {"schema": SCHEMA, "case_id": self.case_id, **dataclasses.asdict(self)}
        return json.dumps(data, ensure_ascii=False, allow_nan=False, default=sorted)

    @classmethod
    def from_json(cls, line: str) -> Result:
        """Parse one line, of this or an earlier schema; a line that is not JSON raises ValueError.

        Raises UserError if its schema is missing or newer, or its case is invalid.
        """
        data = json.loads(line)
        schema = data.pop("schema", None)
        if not isinstance(schema, int):
            raise UserError("not a ReelBench result: it has no schema number")
        if schema > SCHEMA:
            raise UserError(
                f"written by a newer ReelBench (schema {schema}, this one reads {SCHEMA}): upgrade to read it"
            )
        data.pop("case_id", None)
        metrics = [RENAMED_METRICS.get(name, name) for name in data["case"].get("metrics", ())]
        data["case"] = Case.from_json({**data["case"], "metrics": metrics})
        data["metrics"] = {
            RENAMED_KEYS.get(name, name): _metric(values, schema) for name, values in data["metrics"].items()
        }
        data["details"] = _renamed(data.get("details", {}))
        data["published"] = tuple(Published(**row) for row in data.get("published", ()))
        return cls(**data)


def machine(environment: Mapping[str, Any], device: str) -> str:
    """Return the name of the machine that a case on `cpu` or `cuda` runs on: the GPUs', or the CPU's with its cores."""
    gpus = [str(gpu["name"]) for gpu in environment.get("gpus") or ()] if device == "cuda" else []
    if gpus:
        return gpus[0] if len(gpus) == 1 else f"{len(gpus)} × {gpus[0]}"
    cores = environment.get("cores")
    return f"{environment.get('cpu') or ''}{f', {cores} cores' if cores else ''}"


def newest(results: Iterable[Result]) -> list[Result]:
    """Return the newest result of each case and machine, of results from old to new, in order of first appearance.

    One that records no machine is of the machine before it.
    """
    found: dict[tuple[str, str], Result] = {}
    latest: dict[str, str] = {}
    for result in results:
        case_id, before = result.case_id, latest.get(result.case_id, "")
        if result.machine and not before:
            found.pop((case_id, ""), None)
        latest[case_id] = result.machine or before
        found[case_id, latest[case_id]] = result
    return list(found.values())


def changes(before: Mapping[str, str], today: Mapping[str, str]) -> list[str]:
    """Return what differs between two provenances, in words: `models/tsm.py`, `torch 2.12.0 -> 2.13.0`.

    Without a record of either it is `unknown code`. Paths are shortened to their last folder.
    """
    if before == today:
        return []
    if not before or not today:
        return ["unknown code"]
    names = [name for name in {**today, **before} if before.get(name) != today.get(name)]
    return [_change(name, before.get(name), today.get(name)) for name in names]


def shortened(changes: Sequence[str], most: int) -> str:
    """Return the first changes, and the number of the others."""
    more = len(changes) - most
    return ", ".join([*changes[:most], *([f"and {more} more"] if more > 0 else [])])


def is_file(name: str) -> bool:
    """Return whether a name in a provenance is a file's; others are of packages and drivers."""
    return "/" in name or name.endswith(".py")


def now() -> str:
    """Return the current UTC time in ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def metric_from_json(values: dict[str, Any]) -> Metric:
    """Return the metric from its fields as JSON has them (lists for tuples and sets)."""
    lists = {name: tuple(values.get(name, ())) for name in ("samples", "rounds")}
    return Metric(**{**values, **lists, "flags": frozenset(values.get("flags", ()))})


def _change(name: str, before: str | None, today: str | None) -> str:
    short = re.sub(r"/\S*/([^/\s]+/[^/\s]+)$", r"\1", name)
    return short if is_file(name) else f"{short} {before or 'missing'} -> {today or 'missing'}"


def _renamed(value: Any) -> Any:
    """Return details with the keys of earlier versions, at any depth, under today's names."""
    if isinstance(value, dict):
        return {RENAMED_KEYS.get(name, name): _renamed(inner) for name, inner in value.items()}
    return [_renamed(inner) for inner in value] if isinstance(value, list) else value


def _metric(values: dict[str, Any], schema: int) -> Metric:
    if schema == 1 and values.get("warning", "").startswith("disturbed"):
        values = {**values, "flags": ["machine_disturbed"]}
    return metric_from_json(values)
