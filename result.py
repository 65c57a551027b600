"""Result and Metric: what a finished case leaves behind, as one JSON object a line of `results.jsonl`."""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from .errors import UserError
from .spec import Case, Published

SCHEMA = 1
SLOWER = 1.2  # times the best pace of the machine itself: a time measured then is compared with none
DISTURBED = "disturbed"  # how the warning of a time begins that the machine spoilt: it is compared with none
Status = Literal["ok", "failed", "oom", "timeout", "unsupported"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured number with its interval and samples. `convention` says what the number counts, where it matters.

    `rounds` says how many of the samples, in order, each round of an interleaved run took; empty for a run in one go.
    """

    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    samples: tuple[float, ...] = ()
    rounds: tuple[int, ...] = ()
    convention: str = ""
    warning: str = ""


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
    details: dict[str, Any] = field(default_factory=dict)
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
        return json.dumps(data, ensure_ascii=False, allow_nan=False)

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
        data["metrics"] = {name: _metric(values) for name, values in data["metrics"].items()}
        data["published"] = tuple(Published(**row) for row in data.get("published", ()))
        return cls(**data)


def is_time(unit: str) -> bool:
    """Whether a number in this unit is a time, or a rate: what the machine's state can spoil."""
    return unit in ("ms", "s") or unit.endswith("/s")


def now() -> str:
    """Return the time as results write it: ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _metric(values: dict[str, Any]) -> Metric:
    lists = {name: tuple(values.get(name, ())) for name in ("samples", "rounds")}
    return Metric(**{**values, **lists})
