"""The machine's state during a measurement: clocks, temperature, throttling, other users, load, calibration.

`watch(device)` samples a GPU through NVML in a thread, ten times a second. On a CPU, which a sampling thread would
disturb, it reads load and frequency before and after, and times a fixed calibration workload: a virtual machine may run
a third slower for seconds because of other guests, and nothing else shows it.
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
CALIBRATION_SAMPLES, CALIBRATION_STEPS, CALIBRATION_WIDTH = 15, 64, 32
BUSY = {"cpu": 0.1, "cuda": 0.5}  # fraction of the cores that other processes may use undisturbed


@contextmanager
def watch(device: torch.device) -> Iterator[MachineState]:
    """Record the machine's state during the block; the yielded dict is filled when the block ends, also by an error.

    `disturbed` lists what invalidates a measurement: a throttled or shared GPU, cores used by other processes.
    """
    found: MachineState = {"load_before": round(os.getloadavg()[0], 2)}
    samples: list[dict[str, Any]] = []
    stop = threading.Event()
    sampler = threading.Thread(target=_sample, args=(device, samples, stop), daemon=True)
    if device.type == "cuda":
        sampler.start()
    before = calibration(device)
    begin, busy, own = time.monotonic(), _busy_seconds(), _own_seconds()
    try:
        yield found
    finally:
        stop.set()
        if sampler.is_alive():
            sampler.join()
        found["load_after"] = round(os.getloadavg()[0], 2)
        found["cpu_mhz"] = cpu_mhz()
        others = (_busy_seconds() - busy) - (_own_seconds() - own)
        found["others_cpu"] = round(max(0.0, others / (time.monotonic() - begin) / (os.cpu_count() or 1)), 3)
        found["calibration_ms"] = [*before, *calibration(device)]
        found.update(summary(samples))
        found["disturbed"] = disturbances(found, device.type)


def disturbances(found: MachineState, device: str) -> list[str]:
    """Return the reasons in a machine state that invalidate a measurement on `cpu` or `cuda`, in words.

    Calibrations are compared only with the state's own fastest; for another reference see `slowed`.
    """
    reasons = list(found.get("slowed", ()))
    if found.get("other_users"):
        reasons.append("the GPU has other users")
    if found.get("others_cpu", 0.0) > BUSY[device]:
        reasons.append(f"others used {found.get('others_cpu', 0.0):.0%} of the cores")
    return reasons + slowed(found, min(found.get("calibration_ms") or [0.0]))


def slowed(found: MachineState, best: float) -> list[str]:
    """Return [a reason] if the state's slowest calibration is over `SLOWER` times the `best` one (ms), else []."""
    worst = max(found.get("calibration_ms") or [0.0])
    return [f"the machine itself ran {worst / best:.2f} times slower than at its best"] if worst > SLOWER * best else []


def calibration(device: torch.device) -> list[float]:
    """Return [median milliseconds] of a fixed chain of small CPU operations; [] on a GPU, where NVML tells more.

    The operations are small because another load on the same core slows operator dispatch by a third, but large matrix
    products only by a tenth.
    """
    if device.type != "cpu":
        return []
    x = torch.full((CALIBRATION_WIDTH, CALIBRATION_WIDTH), 1 / CALIBRATION_WIDTH)
    times = []
    for _ in range(CALIBRATION_SAMPLES):
        begin, y = time.perf_counter(), x
        for _ in range(CALIBRATION_STEPS):
            y = torch.nn.functional.gelu(y @ x)
        times.append(1e3 * (time.perf_counter() - begin))
    return [round(statistics.median(times), 4)]


def _busy_seconds() -> float:
    """Return the CPU-seconds busy over all cores, steal time included."""
    import psutil

    times = psutil.cpu_times()._asdict()
    return sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def _own_seconds() -> float:
    """Return the CPU-seconds used by this process and its children, finished ones included."""
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
    """Return the cores' present mean frequency in MHz; None if the system does not report it."""
    import psutil

    frequency = psutil.cpu_freq()
    return round(frequency.current) if frequency else None


def summary(samples: list[dict[str, Any]]) -> MachineState:
    """Summarize NVML samples: [min, median, max] of SM clock, temperature and power; throttle reasons seen.

    `other_users` is the largest number of other compute processes. Readings that no sample has are omitted; the
    throttle reasons are then empty lists. Without samples the result is empty.
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
    reasons, slowed = ([name for bit, name in names.items() if bits & bit] for names in (nvml.REASONS, nvml.SLOWED))
    found = MachineState(**spans, reasons=reasons, slowed=slowed)
    if others := [s["others"] for s in samples if s["others"] is not None]:
        found["other_users"] = max(others)
    return found


def _sample(device: torch.device, samples: list[dict[str, Any]], stop: threading.Event) -> None:
    handle, own = nvml.handle(device), _suite()
    while handle is not None and not stop.is_set():
        samples.append(nvml.look(handle, own))
        stop.wait(PERIOD)


def _suite() -> set[int]:
    """Return the ids of this suite's processes: this one, and the idle workers of other cases."""
    import psutil

    return {os.getpid(), *(child.pid for child in psutil.Process(os.getppid()).children(recursive=True))}
