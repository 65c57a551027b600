"""The machine's state during each case: load, frequency and calibration; on a GPU clock, temperature, power, sharing.

Ranges cover all readings: before and after, all samples, all rounds.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..result import MachineState, Result
from ._calibration import states
from ._table import Cell, Column, Table, by_case, printable

SEEN = {
    "load": ("load_before", "load_after"),
    "others": ("others_cpu",),
    "mhz": ("cpu_mhz",),
    "calibration": ("calibration_ms",),
    "clock": ("sm_clock_mhz",),
    "heat": ("temperature_c",),
    "power": ("power_w",),
    "users": ("other_users",),
}
COLUMNS = (
    Column(name="load", header="load average", decimals=1),
    Column(name="others", header="cores used by others", unit="%", scale=100, decimals=0),
    Column(name="mhz", header="CPU", unit="MHz", decimals=0),
    Column(name="calibration", header="calibration", unit="ms"),
    Column(name="clock", header="GPU", unit="MHz", decimals=0),
    Column(name="heat", header="GPU", unit="°C", decimals=0),
    Column(name="power", header="GPU", unit="W", decimals=0),
    Column(name="users", header="other users of the GPU", decimals=0),
)
CAPTION = (
    "Load average and calibration (the time of a fixed workload on the CPU) before and after, the share of the cores "
    "that other processes used, and the GPU's readings, ten a second. Disturbed measurements carry a warning."
)


def table(results: Sequence[Result], most: int | None = None) -> Table | None:
    """Return a row per case, at most `most`; None if no result has a machine state."""
    seen = [states(result) for result in results]
    columns = [c for c in COLUMNS if any(_values(c, found) for found in seen)]
    if not columns:
        return None
    rows = [
        (result, [*(_span(c, _values(c, found)) for c in columns), _remarks(found)])
        for result, found in zip(results[:most], seen[:most], strict=True)
    ]
    remarks = Column(name="remarks", header="remarks", numeric=False)
    return by_case("What the machine did meanwhile", [*columns, remarks], rows, CAPTION, left=len(results) - len(rows))


def _values(column: Column, seen: Sequence[MachineState]) -> list[float]:
    found = [state[key] for state in seen for key in SEEN[column.name] if state.get(key) is not None]
    return [number for value in found for number in (value if isinstance(value, list) else [value])]


def _span(column: Column, values: Sequence[float]) -> Cell:
    if not values:
        return Cell()
    ends = dict.fromkeys(column.text(end) for end in (min(values), max(values)))
    return Cell(text=" – ".join(ends), value=max(values) * column.scale)


def _remarks(seen: Sequence[MachineState]) -> Cell:
    remarks = dict.fromkeys(text for state in seen for key in ("reasons", "disturbed") for text in state.get(key, ()))
    return Cell(text=printable(", ".join(remarks))) if remarks else Cell()
