"""Results in Python: a sequence of them with its reports, and a comparison of two."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, overload

from .. import reports
from ..errors import UserError
from ..reports import _predictions
from ..reports import compare as comparison
from ..result import Result, newest
from .suites import ledger

if TYPE_CHECKING:
    import pandas as pd

    from ..reports import Table


FEW = 8  # tested cases, each compared with each on all of their videos


class Results(Sequence[Result]):
    """The newest result of each case and machine, in order of first appearance.

    `history` has every measurement, oldest first. In a notebook it shows its table.
    """

    def __init__(self, measured: Iterable[Result]) -> None:
        self.history = tuple(measured)
        self._newest = tuple(newest(self.history))

    def __len__(self) -> int:
        return len(self._newest)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...

    def __getitem__(self, index: int | slice) -> Result | Results:
        return Results(self._newest[index]) if isinstance(index, slice) else self._newest[index]

    def __repr__(self) -> str:
        counts = {status: sum(result.status == status for result in self) for status in ("ok", "failed")}
        others = len(self) - sum(counts.values())
        parts = [f"{count} {status}" for status, count in (*counts.items(), ("others", others)) if count]
        return f"Results({len(self)} cases: {', '.join(parts)})" if self else "Results(no cases)"

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per case: settings, then each metric as `name`, `name_low`, `name_high`, in the stored unit."""
        import pandas as pd

        return pd.read_csv(io.StringIO(self.report("csv")))

    @overload
    def report(self, kind: str = "terminal") -> str: ...
    @overload
    def report(self, kind: str = "terminal", *, to: str | Path) -> list[Path]: ...

    def report(self, kind: str = "terminal", *, to: str | Path | None = None) -> str | list[Path]:
        """Return a report as text, or write it to a file, of any format of `reports.formats`; return the files written.

        Raises UserError without results, for an unknown format, or for a picture without a file.
        """
        if to is not None:
            return reports.write(self, kind, Path(to))
        text = reports.render(self, kind)
        if isinstance(text, bytes):
            raise UserError(f"a {kind} is a picture: name a file with to=…")
        return text

    def _repr_html_(self) -> str:
        return _html(reports.table(self)) if self else "no results"


class Comparison(Sequence[comparison.Verdict]):
    """The verdicts on every metric of the cases that two results have in common; printed, it is the table of them."""

    def __init__(self, a: Sequence[Result], b: Sequence[Result], metrics: Sequence[str] = ()) -> None:
        self._a, self._b, self._metrics = a, b, metrics
        self._verdicts, _ = comparison.judge(a, b, metrics)

    def __len__(self) -> int:
        return len(self._verdicts)

    @overload
    def __getitem__(self, index: int) -> comparison.Verdict: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[comparison.Verdict]: ...

    def __getitem__(self, index: int | slice) -> comparison.Verdict | Sequence[comparison.Verdict]:
        return self._verdicts[index]

    def __str__(self) -> str:
        return comparison.render(self._a, self._b, metrics=self._metrics)

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per case and metric: both values in the stored unit, ratio b / a, corrected p, verdict."""
        import pandas as pd

        return pd.DataFrame([_row(verdict) for verdict in self])

    def _repr_html_(self) -> str:
        return "".join(map(_html, comparison.tables(self._a, self._b, self._metrics)))


def load_results(*folders: str | Path) -> Results:
    """Return the results of one or more results folders. Raises UserError if one holds none."""
    return Results(result for folder in map(Path, folders) for result in paired(_read(folder), folder))


def paired(results: Iterable[Result], folder: Path) -> list[Result]:
    """Return results of a folder, their predictions counted against others' (`paired`).

    Those are the bases of an ablation's steps, and of at most `FEW` tested cases all others. Cases without predictions,
    or of which a video may have several labels, are returned unchanged. A folder keeps the predictions that it got
    last: of a case that several machines tested there, only the newest result has any.
    """
    found = list(results)
    last = {r.case_id: r.machine for r in sorted(found, key=lambda r: r.started) if "top1" in r.metrics}
    few = last if len(last) <= FEW else {}
    read = cache(lambda case_id: _predictions.read(folder / "predictions" / f"{case_id}.parquet", case_id))

    def own(result: Result) -> Result:
        if last.get(result.case_id) != result.machine:
            return result
        bases = {base for _, base in result.details.get("steps", ())} | set(few)
        return _with_pairs(result, read, {base for base in bases if last.get(base) == result.machine})

    return [own(result) for result in found]


def compare(a: Results | str | Path, b: Results | str | Path, metrics: Sequence[str] = ()) -> Comparison:
    """Compare two results, or results folders, as `reelbench compare` does; with `metrics`, only those.

    Raises UserError if they have no measured case in common, or none of the metrics.
    """
    before, after = (some if isinstance(some, Results) else load_results(some) for some in (a, b))
    return Comparison(before.history, after.history, metrics)


def _read(folder: Path) -> list[Result]:
    if not (folder / ledger.FILE).exists():
        raise UserError(f"{folder} holds no {ledger.FILE}: make it with `reelbench run SUITE --out {folder}`")
    return ledger.read_all(folder)


def _with_pairs(result: Result, read: Callable[[str], _predictions.Predictions], bases: set[str]) -> Result:
    found: dict[str, list[float]] = {}
    for base in sorted(bases - {result.case_id}):
        with contextlib.suppress(UserError):
            found[base] = _predictions.disagreement(read(base), read(result.case_id))
    return replace(result, details={**result.details, "paired": found}) if found else result


def _row(verdict: comparison.Verdict) -> dict[str, object]:
    difference = verdict.difference
    ratio, low, high = difference.ratio or (None, None, None)
    return {
        "case_id": verdict.result.case_id, "model": verdict.result.case.model, "metric": difference.column.name,
        "a": difference.a, "b": difference.b, "ratio": ratio, "ratio_low": low, "ratio_high": high, "p": verdict.p,
        "verdict": verdict.text,
    }  # fmt: skip


def _html(table: Table) -> str:
    import pandas as pd

    rows = [[cell.full for cell in row.cells] for row in table.rows]
    return pd.DataFrame(rows, columns=[column.label for column in table.columns]).to_html(index=False, border=0)
