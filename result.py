"""Result and Metric: what a finished case leaves behind, as one JSON object a line of `results.jsonl`."""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, get_args

from .errors import UserError
from .metric_table import Better
from .spec import Case, Published

SCHEMA = 2  # 2: `Metric.flags`; before, a disturbed time was told by how its warning began
SLOWER = 1.2  # times the best pace of the machine itself: a time measured then is compared with none
Status = Literal["ok", "failed", "oom", "timeout", "unsupported"]
Flag = Literal["machine_disturbed", "unsteady", "above_peak", "counters_disagree"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured number with its interval and samples. `convention` says what the number counts, where it matters.

    `rounds` says how many of the samples, in order, each round of an interleaved run took; empty for a run in one go.
    `flags` name what makes the number doubtful, `warning` says it in words. `better` is for metrics of one's own, which
    the metric table does not know.
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


class MachineState(TypedDict, total=False):
    """What the machine did during a measurement; see `harness/measuring/machine.py`. A GPU's: least, median, most.

    `disturbed` lists what spoilt the measurement, in words; `pace_ms` holds the calibration before and after.
    """

    load_before: float
    load_after: float
    cpu_mhz: float | None
    others_cpu: float
    pace_ms: list[float]
    sm_clock_mhz: list[float]
    temperature_c: list[float]
    power_w: list[float]
    reasons: list[str]
    slowed: list[str]
    other_users: int
    disturbed: list[str]


class TrainingSummary(TypedDict):
    """A case's training: optimizer steps, seconds, and the loss of the first and the last step."""

    steps: int
    seconds: float
    first_loss: float
    last_loss: float


class Details(TypedDict, total=False):
    """What a case found beside its metrics; a key is there where something was found.

    Videos: `test_videos` of the index, `rejected_videos` left out of it, `listed` and `videos` that were tested,
    `broken` (path, reason) among them, `passed_over` in training. Accuracy: `views`, `chance` in percent, `learned`.
    Cost: `flops_by_operator`, `flops_unsupported_operators`, `batch_sweep`, `best_batch`, `largest_batch`,
    `view_budget`, `alone_clips_s` and the sentence `limit`, `idle_w` and `busy_w`, what the device
    does not tell (`not_available`). The measurement itself:
    `metric_seconds`, `warm_ups_cut_short`, `machine`, or one a round in `rounds`, and `spent`, the seconds of each
    phase. A mean over seeds names its `seeds` and `cases`.
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
    spent: dict[str, float]
    seeds: list[int]
    cases: list[str]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One finished case. `status` is `ok`, or says how it ended, and then `error` says why in one line.

    `published` holds what papers print of the model (or of a micro's full-size siblings), for reports to set beside.
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

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise UserError(f"result: status={self.status!r} is none of {', '.join(get_args(Status))}")

    @property
    def case_id(self) -> str:
        """The case's name in the ledger, in reports and in the log's file name."""
        return self.case.case_id

    def to_json(self) -> str:
        """Return the result as one line of JSON."""
        data = {"schema": SCHEMA, "case_id": self.case_id, **dataclasses.asdict(self)}
        return json.dumps(data, ensure_ascii=False, allow_nan=False, default=sorted)

    @classmethod
    def from_json(cls, line: str) -> Result:
        """Read one line; a newer schema is a `UserError` that says so."""
        data = json.loads(line)
        schema = data.pop("schema", None)
        if not isinstance(schema, int):
            raise UserError("not a ReelBench result: it has no schema number")
        if schema > SCHEMA:
            raise UserError(
                f"written by a newer ReelBench (schema {schema}, this one reads {SCHEMA}): upgrade to read it"
            )
        data.pop("case_id", None)
        data["case"] = Case.from_json(data["case"])
        data["metrics"] = {name: _metric(values, schema) for name, values in data["metrics"].items()}
        data["published"] = tuple(Published(**row) for row in data.get("published", ()))
        return cls(**data)


def now() -> str:
    """Return the time as results write it: ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def metric_from_json(values: dict[str, Any]) -> Metric:
    """Return the metric whose fields JSON holds."""
    lists = {name: tuple(values.get(name, ())) for name in ("samples", "rounds")}
    return Metric(**{**values, **lists, "flags": frozenset(values.get("flags", ()))})


def _metric(values: dict[str, Any], schema: int) -> Metric:
    if schema == 1 and values.get("warning", "").startswith("disturbed"):
        values = {**values, "flags": ["machine_disturbed"]}
    return metric_from_json(values)
