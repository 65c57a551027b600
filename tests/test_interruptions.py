"""Training that is killed, asked to stop, or goes wrong, in the real launcher's processes."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from reelbench import models
from reelbench.harness.training import checkpoints, launch, launcher, run_folder
from reelbench.harness.training.job import Job
from reelbench.pipelines.index import Index
from reelbench.spec import Recipe
from reelbench.tests import ranks

MODEL = "video_swin/micro"
RECIPE = Recipe(epochs=4, batch=8, lr=1e-3, warmup_epochs=1, drop_path=0.3, mixup=0.8, ema=0.9, validate_epochs=2)


def job(data: dict[str, Path], out: Path, recipe: Recipe = RECIPE, **options) -> Job:
    clip = models.find(MODEL).clip
    return Job(model=MODEL, data=data["train"], recipe=recipe, clip=clip, out=out, workers=1, **options)


def wait_for_step(process: subprocess.Popen[str], made: Job, step: int) -> None:
    while len(run_folder.read_log(made.out)) < step:
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.02)


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    below = psutil.Process(process.pid).children(recursive=True)
    return [p for p in below if "deepspeed.launcher.launch" in (p.parent() or p).cmdline()]


def still_there(folder: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if str(folder) in " ".join(p.info["cmdline"] or [])]


def everyone(process: subprocess.Popen[str]) -> list[psutil.Process]:
    first = psutil.Process(process.pid)
    return [*first.children(recursive=True), first]


def kill(process: subprocess.Popen[str]) -> None:
    for victim in everyone(process):
        victim.kill()
    process.communicate()


@pytest.mark.slow  # four trainings, each with its imports and decoders
def test_killed_anywhere_and_stopped_by_a_signal_a_run_sees_the_same_losses(tiny_synthetic, tmp_path):
    unbroken = job(tiny_synthetic, tmp_path / "unbroken")
    whole = ranks.bare(unbroken)
    made = job(tiny_synthetic, tmp_path / "broken", save_steps=1)
    process = ranks.launched(made)
    wait_for_step(process, made, random.Random().randint(2, 5))
    kill(process)

    resumed = dataclasses.replace(made, resume=True)
    process = ranks.launched(resumed)
    wait_for_step(process, made, random.Random().randint(7, 8))
    launch.ask_to_stop(process.pid)
    code, output = ranks.finish(process)
    assert code == 0, output[-3000:]
    assert "continue with --resume" in output
    assert 7 <= len(run_folder.read_log(made.out)) < 12

    losses, expected = ranks.losses(resumed, *ranks.bare(resumed)), ranks.losses(unbroken, *whole)
    assert len(expected) == 12
    assert losses == expected
    weights = [models.build(MODEL, num_classes=8, checkpoint=run.out / "last.safetensors") for run in (made, unbroken)]
    assert all(torch.equal(a, b) for a, b in zip(*(w.state_dict().values() for w in weights), strict=True))


@pytest.mark.slow  # a training in a process of its own
def test_a_loss_that_is_not_finite_stops_with_what_is_needed_to_see_why(tiny_synthetic, tmp_path):
    recipe = dataclasses.replace(RECIPE, lr=1e30, warmup_epochs=0, ema=0, mixup=0)
    made = job(tiny_synthetic, tmp_path, recipe, max_skipped_steps=2)
    code, output = ranks.finish(*ranks.bare(made))
    assert code != 0
    assert "skipped (1 of 2)" in output
    assert "skipped (2 of 2)" in output
    [line] = [line for line in output.splitlines() if line.startswith("reelbench:")]
    step = len(run_folder.read_log(tmp_path))
    assert f"step {step}, learning rate " in line
    folder = tmp_path / f"nonfinite_step_{step}"
    dump = torch.load(folder / "rank_0.pt", weights_only=True)
    assert dump["files"][0][0] in line
    assert set(dump["files"][0]) <= {str(video.path) for video in Index.load(made.data).videos()}
    assert dump["clip"].shape[0] == 8
    assert "Traceback" not in output
    assert models.build(MODEL, num_classes=8, checkpoint=folder / "weights.safetensors")


COMMAND = [sys.executable, "-m", "reelbench.harness.cli", "train"]


def commanded(made: Job, *more: str) -> subprocess.Popen[str]:
    """Start `reelbench train` in a process group of its own, as a shell does."""
    command = [*COMMAND, *ranks.options(made), *more]
    mine = {name: value for name, value in ranks.environment().items() if not name.startswith("REELBENCH_")}
    return subprocess.Popen(
        command, env=mine, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )  # fmt: skip


def shared_memory(processes: list[psutil.Process]) -> list[Path]:
    """Return the files of shared memory that these processes map."""
    maps = "".join(Path(f"/proc/{process.pid}/maps").read_text() for process in processes)
    return [path for path in Path("/dev/shm").iterdir() if f"{path}\n" in maps]


def removed(files: list[Path]) -> bool:
    """Whether the files are gone; multiprocessing's tracker takes a moment to remove what killed processes left."""
    deadline = time.monotonic() + 20
    while any(path.exists() for path in files) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not any(path.exists() for path in files)


def endless(data: dict[str, Path], out: Path) -> Job:
    return job(data, out, dataclasses.replace(RECIPE, epochs=400, validate_epochs=400), save_steps=1)


@pytest.mark.slow  # two trainings, each with its imports and decoders
def test_ctrl_c_saves_and_a_second_one_ends_at_once(tiny_synthetic, tmp_path):
    made = endless(tiny_synthetic, tmp_path / "run")
    process = commanded(made)
    wait_for_step(process, made, 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to all of them
    code, output = ranks.finish(process)
    assert code == 130
    assert "continue with --resume" in output
    assert "Traceback" not in output
    assert checkpoints.newest(made.out / "checkpoints").name == f"step_{len(run_folder.read_log(made.out))}"

    process = commanded(made, "--resume")
    wait_for_step(process, made, len(run_folder.read_log(made.out)) + 1)
    members = everyone(process)
    files = shared_memory(members)
    for decoder in (p for p in members if "spawn_main" in " ".join(p.cmdline())):
        decoder.suspend()  # the step never ends
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1.5)
    os.killpg(process.pid, signal.SIGINT)
    code, output = ranks.finish(process, limit=20)
    assert code == 130
    assert "--resume goes on from its newest checkpoint" in output
    assert "Traceback" not in output
    assert not still_there(tmp_path)
    assert files
    assert removed(files)


@pytest.mark.slow  # a training with its imports and decoders
@pytest.mark.parametrize("whom", ["parent", pytest.param("launcher", marks=pytest.mark.exhaustive)])
def test_ranks_and_decoders_end_with_whom_started_them(tiny_synthetic, tmp_path, whom):
    made = endless(tiny_synthetic, tmp_path / "run")
    process = commanded(made)
    wait_for_step(process, made, 2)  # so that the first one is saved
    members = everyone(process)
    files = shared_memory(members)
    assert len(members) >= 4  # the command, the launcher, the rank, its decoder
    victim = process if whom == "parent" else psutil.Process(process.pid).children()[0]
    victim.send_signal(signal.SIGKILL)
    code, output = ranks.finish(process, limit=30)
    assert code != 0
    assert whom == "parent" or "training was ended by SIGKILL: --resume goes on" in output
    assert not psutil.wait_procs(members, timeout=20)[1]
    assert files
    assert removed(files)
    assert checkpoints.complete(made.out / "checkpoints")


HOLDER = """
import pathlib, sys
from reelbench.harness.lock import lock
with lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow  # two processes, each with its imports
def test_a_second_run_in_the_same_folder_is_refused(tiny_synthetic, tmp_path):
    made = endless(tiny_synthetic, tmp_path / "run")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, made.out], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        for second in (commanded(made, "--overwrite"), *ranks.bare(made)):
            code, output = ranks.finish(second)
            assert code == 2, output[-3000:]
            assert f"in use by another run (process {holder.pid} on {socket.gethostname()})" in output
        holder.communicate()


@pytest.mark.slow  # a training with its imports and decoders
@pytest.mark.exhaustive
def test_a_terminal_that_is_closed_stops_the_run_like_a_scheduler(tiny_synthetic, tmp_path):
    made = endless(tiny_synthetic, tmp_path / "run")
    ours, theirs = os.openpty()
    command = ["setsid", "--ctty", "--wait", *COMMAND, *ranks.options(made)]
    mine = {name: value for name, value in ranks.environment().items() if not name.startswith("REELBENCH_")}
    process = subprocess.Popen(command, env=mine, stdin=theirs, stdout=theirs, stderr=theirs, text=True)
    os.close(theirs)
    wait_for_step(process, made, 2)
    os.close(ours)  # the kernel hangs up on all of them, and writing to the terminal fails from here on
    assert psutil.Process(process.pid).wait(60) is not None
    deadline = time.monotonic() + 60
    while still_there(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not still_there(tmp_path)
    assert checkpoints.newest(made.out / "checkpoints").name == f"step_{len(run_folder.read_log(made.out))}"


@pytest.mark.slow  # two trainings, each with its imports and decoders
@pytest.mark.exhaustive
def test_killed_before_the_last_validation_a_run_still_ends_with_it(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path, dataclasses.replace(RECIPE, epochs=1, validate_epochs=1), save_steps=1)
    made = dataclasses.replace(made, validation=tiny_synthetic["val"])
    ranks.losses(made, *ranks.bare(made))
    state = tmp_path / "checkpoints" / "step_3" / checkpoints.STATE
    state.write_text(json.dumps({**json.loads(state.read_text()), "pending": True}))  # as it was saved first
    expected = (tmp_path / "last.safetensors").read_bytes()
    for name in ("last.safetensors", "best.safetensors", "validation.jsonl"):
        (tmp_path / name).unlink()
    again = dataclasses.replace(made, resume=True)
    assert len(ranks.losses(again, *ranks.bare(again))) == 3
    assert (tmp_path / "last.safetensors").read_bytes() == expected
    assert [row["step"] for row in run_folder.read_log(tmp_path, "validation")] == [3]


@pytest.mark.slow  # three trainings, each with its imports and decoders
@pytest.mark.exhaustive
def test_another_batch_trains_the_rest_of_the_epochs(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path, dataclasses.replace(RECIPE, epochs=2, validate_epochs=1, ema=0), keep=9)
    assert len(ranks.losses(made, *ranks.bare(made))) == 6
    shutil.rmtree(tmp_path / "checkpoints" / "step_6")
    again = dataclasses.replace(made, recipe=dataclasses.replace(made.recipe, batch=4, ema=0.5), resume=True)
    (process,) = ranks.bare(again)
    code, output = ranks.finish(process)
    assert code == 0, output[-3000:]
    assert "resumed with other settings: batch 8 -> 4, ema 0 -> 0.5" in output
    assert "moving average of the weights starts from those of the checkpoint" in output
    rows = run_folder.read_log(made.out)
    assert [row["step"] for row in rows] == list(range(9))  # three steps of eight, then six of four
    assert [round(row["epoch"], 2) for row in rows[2:5]] == [0.67, 1.0, 1.17]


@pytest.mark.slow  # two ranks through the launcher
@pytest.mark.exhaustive
def test_a_rank_that_is_killed_ends_the_others(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path, dataclasses.replace(RECIPE, epochs=400, validate_epochs=400))
    process = ranks.launched(made, 2)
    wait_for_step(process, made, 1)
    _, second = ranks_of(process)
    second.send_signal(signal.SIGABRT)
    code, _ = ranks.finish(process)
    assert code != 0
    assert not still_there(tmp_path)


@pytest.mark.slow  # two ranks through the launcher
def test_a_rank_that_raises_ends_the_others_and_says_why(tiny_synthetic, tmp_path):
    """One machine lacks a package that is first needed when weights are written, in the midst of training."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif os.environ.get('RANK') == '1':\n    sys.modules['safetensors.torch'] = None\n"
    )
    made = job(tiny_synthetic, tmp_path / "run", dataclasses.replace(RECIPE, epochs=400, validate_epochs=1))
    process = ranks.launched(made, 2, PYTHONPATH=tmp_path)
    wait_for_step(process, made, 3)
    code, output = ranks.finish(process, limit=60)
    assert code != 0
    assert "import of safetensors.torch halted" in output
    assert "in export\n" in output
    assert not still_there(tmp_path)


@pytest.mark.slow  # two ranks, each with its imports and decoders
@pytest.mark.exhaustive
def test_a_signal_to_every_process_of_a_job_stops_it_as_one_to_its_ranks(tiny_synthetic, tmp_path):
    """SLURM signals all that a step has started: decoders and multiprocessing's tracker among them."""
    made = job(tiny_synthetic, tmp_path, dataclasses.replace(RECIPE, epochs=400, validate_epochs=400))
    processes = ranks.bare(made, 2)
    wait_for_step(processes[0], made, 1)
    for process, number in zip(processes, (signal.SIGTERM, signal.SIGUSR1), strict=True):
        members = everyone(process)
        assert len(members) >= 3  # the rank, its decoder and the tracker
        for member in members:
            member.send_signal(number)
    for process in processes:
        code, output = ranks.finish(process, limit=60)
        assert code == 0, output[-3000:]
        assert "died" not in output
    assert (made.out / "checkpoints" / f"step_{len(run_folder.read_log(made.out))}").exists()


@pytest.mark.parametrize(
    ("nodes", "host"), [("gpu[03-05,9],cpu1", "gpu03"), ("a,b", "a"), ("n7", "n7"), ("rack[1-2]-ib", "rack1-ib")]
)
def test_srun_names_the_ranks(nodes, host):
    step = {
        "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": nodes,
        "SLURM_JOB_ID": "1234",
    }  # fmt: skip
    found = launch.slurm_rank(step)
    assert found == {
        "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": host, "MASTER_PORT": "21234",
    }  # fmt: skip
    assert launch.slurm_rank({**step, "RANK": "0"}) == {}
    assert launch.slurm_rank({}) == {}


@pytest.mark.slow  # two launchers and their ranks
@pytest.mark.exhaustive
def test_two_launchers_without_ssh_make_one_run(tiny_synthetic, tmp_path):
    """Two machines in one: each launcher is given its node rank, and they meet over the loopback interface."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 slots=1\nlocalhost slots=1\n")
    made = job(tiny_synthetic, tmp_path / "run", dataclasses.replace(RECIPE, epochs=1, zero=1))
    options = {"hostfile": hosts, "master": f"127.0.0.1:{launcher.free_port()}"}
    lines = [launcher.command(ranks.options(made), node_rank=node, **options) for node in (0, 1)]
    assert len(ranks.losses(made, *map(ranks.start, lines))) == 3
    assert json.loads((made.out / "checkpoints" / "step_3" / checkpoints.STATE).read_text())["ranks"] == 2


CABLE = """
ip link set lo up
unshare --net sleep 300 & second=$!
trap 'kill $second' EXIT
until [ "$(readlink /proc/$second/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
inside="nsenter --target $second --net"
ip link add first type veth peer name second netns $second
ip address add 10.77.0.1/24 dev first
ip link set first up
$inside ip link set lo up
$inside ip address add 10.77.0.2/24 dev second
$inside ip link set second up
"""


def apart(script: str) -> list[str]:
    """Return a command that runs a script where `$inside` leads to a second machine: namespaces joined by a cable."""
    return ["unshare", "--map-root-user", "--net", "bash", "-ec", CABLE + script]


def may_be_apart() -> bool:
    tools = all(shutil.which(name) for name in ("unshare", "nsenter", "ip", "bash"))
    return tools and subprocess.run(apart("$inside ip link show second"), capture_output=True).returncode == 0


@pytest.mark.slow  # two launchers and their ranks
@pytest.mark.skipif(not may_be_apart(), reason="the kernel forbids network namespaces here")
@pytest.mark.exhaustive
def test_two_network_namespaces_make_one_run(tiny_synthetic, tmp_path):
    """Two machines that share no loopback interface and reach each other by their addresses alone."""
    hosts = tmp_path / "hosts"
    hosts.write_text("10.77.0.1 slots=1\n10.77.0.2 slots=1\n")
    made = job(tiny_synthetic, tmp_path / "run", dataclasses.replace(RECIPE, epochs=1, zero=1))
    options = {"hostfile": hosts, "master": "10.77.0.1:29555"}
    first, second = (shlex.join(launcher.command(ranks.options(made), node_rank=node, **options)) for node in (0, 1))
    script = f"GLOO_SOCKET_IFNAME=second $inside {second} & other=$!\nGLOO_SOCKET_IFNAME=first {first}\nwait $other"
    assert len(ranks.losses(made, ranks.start(apart(script)))) == 3
    assert json.loads((made.out / "checkpoints" / "step_3" / checkpoints.STATE).read_text())["ranks"] == 2


@pytest.mark.slow  # a training through torchrun
@pytest.mark.exhaustive
def test_torchrun_starts_the_module_too(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path, dataclasses.replace(RECIPE, epochs=1))
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    command = [*line, "--module", "reelbench.harness.training", *ranks.options(made)]
    assert len(ranks.losses(made, ranks.start(command))) == 3
