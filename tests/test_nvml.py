"""NVML as cards, slices and containers answer it: each missing reading costs itself alone. The driver is stubbed."""

from __future__ import annotations

import os
import sys
import threading
from types import SimpleNamespace

import pynvml
import pytest
import torch
from reelbench import models
from reelbench.harness import metrics
from reelbench.harness.measuring import environment, machine, nvml
from reelbench.harness.metrics import memory
from reelbench.reports import _measured
from reelbench.result import Result
from reelbench.spec import Case

CUDA = torch.device("cuda")
OWN = os.getpid()
MISSING = {
    "NotSupported": pynvml.NVML_ERROR_NOT_SUPPORTED,
    "NotFound": pynvml.NVML_ERROR_NOT_FOUND,
    "NoPermission": pynvml.NVML_ERROR_NO_PERMISSION,
}
H100 = {
    "nvmlInit": None,
    "nvmlDeviceGetCount": 1,
    "nvmlDeviceGetHandleByIndex": "card",
    "nvmlDeviceGetHandleByUUID": "card",
    "nvmlDeviceGetName": "NVIDIA H100",
    "nvmlSystemGetDriverVersion": "580.1",
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * 2**30),
    "nvmlDeviceGetClockInfo": 1980,
    "nvmlDeviceGetTemperature": 60,
    "nvmlDeviceGetPowerUsage": 500_000,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0x04,
    "nvmlDeviceGetTotalEnergyConsumption": 7_000,
    "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=OWN, usedGpuMemory=512 * 2**20)],
}


@pytest.fixture
def driver(monkeypatch):
    """Answer NVML's calls by a table; an error's number is raised, a function is called."""

    def start(**changed):
        def answer(value):
            def call(*arguments):
                found = value(*arguments) if callable(value) else value
                if isinstance(found, pynvml.NVMLError):
                    raise found
                return found

            return call

        table = {**H100, **{f"nvml{name}": value for name, value in changed.items()}}
        fake = SimpleNamespace(
            NVMLError=pynvml.NVMLError, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2, NVML_TEMPERATURE_GPU=0,
            **{name: answer(value) for name, value in table.items()},
        )  # fmt: skip
        monkeypatch.setitem(sys.modules, "pynvml", fake)

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml._start.cache_clear()
    yield start
    nvml._start.cache_clear()


def seen(device: torch.device = CUDA) -> dict:
    """What watching makes of one look at the card."""
    samples: list[dict] = []
    stop = threading.Event()
    stop.wait = lambda seconds: stop.set()  # type: ignore[method-assign, assignment]
    machine._sample(device, samples, stop)
    return machine.summary(samples)


def subject(**fields) -> metrics.Subject:
    variant = models.find("tsm/micro")
    return metrics.Subject(
        model=models.build("tsm/micro").eval(), case=Case(model="tsm/micro", device="cuda", **fields),
        clip=variant.clip, views=variant.views, device=CUDA, num_classes=8, videos=8, open_stream=lambda **_: None,
    )  # fmt: skip


def test_a_whole_card_tells_everything(driver):
    driver()
    found = seen()
    assert found["sm_clock_mhz"] == [1980, 1980, 1980]
    assert found["power_w"][1] == 500.0
    assert (found["reasons"], found["slowed"], found["other_users"]) == (["power cap"], [], 0)
    assert environment.gpus()[0]["memory_gib"] == 80.0
    assert nvml.process_memory("card") == 512 * 2**20
    assert nvml.joules("card") == 7.0


@pytest.mark.parametrize("error", list(MISSING))
@pytest.mark.parametrize(
    "name", [name for name in H100 if name not in ("nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex")]
)
def test_a_missing_reading_costs_itself_alone(driver, name, error):
    driver(**{name.removeprefix("nvml"): pynvml.NVMLError(MISSING[error])})
    [card] = environment.gpus()
    assert card["name"]
    handle = nvml.handle(CUDA)
    assert (handle is None) == (name == "nvmlDeviceGetHandleByUUID")
    found = seen()
    assert machine.disturbances({**found, "others_cpu": 0.0}, "cuda") == []
    known = {"sm_clock_mhz", "temperature_c", "power_w"} & set(found)
    assert len(known) >= 2 or handle is None
    assert nvml.joules(None) is nvml.process_memory(None) is None


def test_without_a_driver_there_is_no_gpu(driver):
    driver(Init=pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    assert environment.gpus() == []


def test_others_are_counted_only_where_this_process_is_listed(driver):
    """In a container with process numbers of its own NVML lists the host's."""
    stranger = SimpleNamespace(pid=10**7, usedGpuMemory=2**20)
    driver(DeviceGetComputeRunningProcesses=[stranger])
    assert "other_users" not in seen()
    assert nvml.process_memory("card") is None
    driver(DeviceGetComputeRunningProcesses=[*H100["nvmlDeviceGetComputeRunningProcesses"], stranger])
    assert seen()["other_users"] == 1


def test_a_slice_is_found_by_its_own_name(driver, monkeypatch):
    slices = {"MIG-5678": "slice"}
    driver(DeviceGetHandleByUUID=lambda uuid: slices.get(uuid) or pynvml.NVMLError(MISSING["NotFound"]))
    assert nvml.handle(CUDA) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-5678")
    assert nvml.handle(CUDA) == "slice"
    slices.update({"MIG-1234": "named by torch"})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert nvml.handle(CUDA) == "named by torch"


def test_what_a_device_cannot_tell_is_said_and_ends_nothing(driver, monkeypatch):
    driver(
        DeviceGetHandleByUUID=pynvml.NVMLError(MISSING["NotFound"]),
        DeviceGetTotalEnergyConsumption=pynvml.NVMLError(MISSING["NotSupported"]),
    )
    made = subject(metrics=("energy",))
    assert metrics.measure(made) == {}
    for name in ("max_memory_allocated", "max_memory_reserved"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 2**30)
    assert memory._on_card(CUDA, "eager")["memory_process_mib"] is None
    around = {"gpus": [{"name": "GB10"}]}
    result = Result(case=made.case, status="ok", started="", seconds=1.0, environment=around, details=made.notes)
    assert "Not available on this device (GB10): energy." in _measured.measured([result]).notes


def test_replayed_graphs_show_what_is_reserved(driver, monkeypatch):
    """Their pool is lent out once and for all: the allocator counts nothing of it while a graph is replayed."""
    driver()
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 900 * 2**20)
    eager, graph = (memory._on_card(CUDA, mode) for mode in ("eager", "cuda_graphs"))
    assert eager == {"memory_allocated_mib": 3, "memory_reserved_mib": 900, "memory_process_mib": 512}
    assert graph == {**eager, "memory_allocated_mib": None}
