"""What the machine does while something is measured: clocks, temperature, throttling, other users, load.

`watch(device)` samples a GPU through NVML in a thread, ten times a second; of a CPU, whose threads a sampler would
disturb, only load and frequency before and after, and its pace: how long a fixed piece of work takes. A machine shared
with others outside of it may run a third slower for seconds, and nothing else tells.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...result import SLOWER, MachineState
from . import nvml

PERIOD = 0.1
PACE_SAMPLES, PACE_STEPS, PACE_WIDTH = 15, 64, 32
BUSY = {"cpu": 0.1, "cuda": 0.5}  # share of the cores that others may use before a measurement is disturbed


@contextmanager
def watch(device: torch.device) -> Iterator[MachineState]:
    """Fill the yielded dict, at the end of the block, with what the machine did during it.

    `disturbed` lists what spoilt a measurement: a GPU that was slowed down or shared, cores that others used.
    """
    found: MachineState = {"load_before": round(os.getloadavg()[0], 2)}
    samples: list[dict[str, Any]] = []
    stop = threading.Event()
    sampler = threading.Thread(target=_sample, args=(device, samples, stop), daemon=True)
    if device.type == "cuda":
        sampler.start()
    before = pace(device)
    begin, busy, own = time.monotonic(), _busy_seconds(), _own_seconds()
    try:
        yield found
    finally:
        stop.set()
        if sampler.is_alive():
            sampler.join()
        found["load_after"] = round(os.getloadavg()[0], 2)
        found["cpu_mhz"] = cpu_mhz()
        spent = (_busy_seconds() - busy) - (_own_seconds() - own)
        found["others_cpu"] = round(max(0.0, spent / (time.monotonic() - begin) / (os.cpu_count() or 1)), 3)
        found["pace_ms"] = [*before, *pace(device)]
        found.update(summary(samples))
        found["disturbed"] = disturbances(found, device.type)


def disturbances(found: MachineState, device: str) -> list[str]:
    """Return what of a summary spoils a measurement."""
    said = list(found.get("slowed", ()))
    if found.get("other_users"):
        said.append("the GPU has other users")
    if found.get("others_cpu", 0.0) > BUSY[device]:
        said.append(f"others used {found.get('others_cpu', 0.0):.0%} of the cores")
    return said + slowed(found, min(found.get("pace_ms") or [0.0]))


def slowed(found: MachineState, best: float) -> list[str]:
    """Return a line where the pace of a summary was far from the best one, in ms."""
    worst = max(found.get("pace_ms") or [0.0])
    return [f"the machine itself ran {worst / best:.2f} times slower than at its best"] if worst > SLOWER * best else []


def pace(device: torch.device) -> list[float]:
    """Return the median milliseconds of a chain of small operations on a CPU, in a list; of a GPU NVML tells more.

    Small ones, because a neighbour on the same core slows dispatching by a third where it slows large matrix products
    by a tenth.
    """
    if device.type != "cpu":
        return []
    x = torch.full((PACE_WIDTH, PACE_WIDTH), 1 / PACE_WIDTH)
    times = []
    for _ in range(PACE_SAMPLES):
        begin, y = time.perf_counter(), x
        for _ in range(PACE_STEPS):
            y = torch.nn.functional.gelu(y @ x)
        times.append(1e3 * (time.perf_counter() - begin))
    return [round(statistics.median(times), 4)]


def _busy_seconds() -> float:
    """Return the seconds that all cores together have worked, or were taken away by a hypervisor."""
    import psutil

    times = psutil.cpu_times()._asdict()
    return sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def _own_seconds() -> float:
    """Return the seconds of a core that this process and its children, finished ones included, have used."""
    import psutil

    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def cpu_mhz() -> float | None:
    """Return the mean frequency of the cores, None where the system does not tell."""
    import psutil

    frequency = psutil.cpu_freq()
    return round(frequency.current) if frequency else None


def summary(samples: list[dict[str, Any]]) -> MachineState:
    """Return the span of clocks, temperature and power, the reasons for slowing down, and the other users.

    What no sample tells is left out.
    """
    if not samples:
        return {}
    spans: Any = {
        name: [min(values), statistics.median(values), max(values)]
        for name in ("sm_clock_mhz", "temperature_c", "power_w")
        if (values := [s[name] for s in samples if s[name] is not None])
    }
    bits = 0
    for sample in samples:
        bits |= sample["reasons"] or 0
    told, slowed = ([name for bit, name in names.items() if bits & bit] for names in (nvml.TOLD, nvml.SLOWED))
    found = MachineState(**spans, reasons=told, slowed=slowed)
    if others := [s["others"] for s in samples if s["others"] is not None]:
        found["other_users"] = max(others)
    return found


def _sample(device: torch.device, samples: list[dict[str, Any]], stop: threading.Event) -> None:
    handle, own = nvml.handle(device), _suite()
    while handle is not None and not stop.is_set():
        samples.append(nvml.look(handle, own))
        stop.wait(PERIOD)


def _suite() -> set[int]:
    """Return the processes that belong to this suite: ours, and those of cases that wait for their turn."""
    import psutil

    return {os.getpid(), *(child.pid for child in psutil.Process(os.getppid()).children(recursive=True))}
