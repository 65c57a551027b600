"""All that a GPU is needed for, run once: `make gpu`, or the most valuable twelve minutes of it, `make gpu-short`.

    python tests/gpu/reference.py                        all parts, into reports/reference/<gpu>
    python tests/gpu/reference.py --short                those of SHORT, in the order of their value
    python tests/gpu/reference.py --only latency         one part; --list names them
    python tests/gpu/reference.py --short --seconds 500  on a machine that is lent for a while
    python tests/gpu/reference.py --device cpu --only doctor     a dry run: of each suite TSM alone

Each part is a command under its own limit, with a log. A part that has ended well is not run again, a suite that was
cut short goes on where it stopped. Nothing needs to be installed but what ReelBench needs: on a machine without a
registry, name the packages' folders in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FILMS = tuple(f"{codec}_{size}" for codec in ("h264", "hevc", "vp9") for size in ("256x256", "340x256", "1920x1080"))
SHORT_SECONDS = 720
LEAST = 5.0  # seconds that are worth starting a part for
LOG_BYTES = 1 << 16  # of a log's end that are kept
# The most valuable first: does it run, what does DALI's cache cost, are the clips right, how fast is the decoding, does
# training run, what do models take.
SHORT = {
    "doctor": 40, "nvdec_cache": 60, "tests_decoding": 150, "short_films": 60, "bench_h264_340x256": 90,
    "short_quick": 150, "train": 120, "tests_measuring": 100, "short_latency": 150, "bench_h264_1920x1080": 60,
    "short_modes": 120,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Part:
    """A command, the seconds that it may take, and the suite's folder whose results belong in the report."""

    name: str
    command: tuple[str, ...]
    limit: float
    results: Path | None = None


def parts(work: Path, device: str) -> list[Part]:
    """Return every part, in the order of `make gpu`; on a CPU with TSM alone."""
    films, tiny = work / "films", device == "cpu"
    shown = [Part(name="doctor", command=_cli("doctor"), limit=120), *_tests()]
    shown.append(Part(name="nvdec_cache", command=(sys.executable, str(HERE / "nvdec_cache.py")), limit=180))
    script = str(HERE / "films.py")
    shown.append(Part(name="films", command=(sys.executable, script, str(films)), limit=900))
    names = ("h264_340x256", "h264_1920x1080")
    shown.append(Part(name="short_films", command=(sys.executable, script, str(films), *names), limit=300))
    shown += [_certify(films, name, device) for name in FILMS] + [_bench(films, name, device, tiny) for name in FILMS]
    shown += [_suite(work, name, name, device, limit, *_few(tiny)) for name, limit in SUITES.items()]
    film = str(films / "h264_340x256.parquet")
    shown.append(_suite(work, "overheads", str(HERE / "overheads.py"), device, 4200, "--data", film, *_few(tiny)))
    one = ("--only", "timesformer/b") if tiny else ()
    shown.append(_suite(work, "official", str(HERE / "official.py"), device, 3600, *one))
    shown.append(_train(work, film, device, tiny))
    return [*shown, *_short_suites(work, device, tiny)]


SUITES = {"quick": 2400, "learn": 14400, "latency": 21600, "throughput": 21600, "modes": 21600, "published": 3600}
THREE = ("--only", "tsm/*", "--only", "video_swin/*", "--only", "vivit/*")


def _cli(*arguments: str) -> tuple[str, ...]:
    return sys.executable, "-m", "reelbench.harness.cli", *arguments


def _few(tiny: bool) -> tuple[str, ...]:
    """Return what is left of each suite in a dry run."""
    return ("--only", "tsm/micro", "--only", "tsm/r50_8f") if tiny else ()


def _tests() -> list[Part]:
    line = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={ROOT}",
        "-c",
        str(ROOT / "pyproject.toml"),
    )
    alone = [str(path) for kind in ("measure", "full_card") for path in sorted(HERE.glob(f"test_*{kind}*.py"))]
    decoding = [str(path) for path in sorted(HERE.glob("test_*.py")) if str(path) not in alone]
    return [
        Part(name="tests_decoding", command=(*line, "-n", "3", *decoding), limit=1800),
        Part(name="tests_measuring", command=(*line, *alone), limit=1800),
    ]


def _certify(films: Path, name: str, device: str) -> Part:
    line = _cli("data", "certify", str(films / f"{name}.parquet"), "--videos", "1", "--device", device)
    return Part(name=f"certify_{name}", command=line, limit=180)


def _bench(films: Path, name: str, device: str, tiny: bool) -> Part:
    seconds, workers = ("0.5", "1") if tiny else ("4", "8")
    options = ("--rivals", "--seconds", seconds, "--workers", workers, "--device", device)
    return Part(
        name=f"bench_{name}", command=_cli("data", "bench", str(films / f"{name}.parquet"), *options), limit=240
    )


def _suite(work: Path, name: str, suite: str, device: str, limit: float, *options: str, out: str = "") -> Part:
    folder = work / (out or name)
    line = _cli("run", suite, "--device", device, "--out", str(folder), *options)
    return Part(name=name, command=line, limit=limit, results=folder)


def _train(work: Path, film: str, device: str, tiny: bool) -> Part:
    """Train Video Swin-T for 50 steps at its published size, bf16 and ZeRO 2."""
    line = _cli(
        "train", "video_swin/micro" if tiny else "video_swin/t", "--data", film, "--epochs", "0.02" if tiny else "1",
        "--batch", "8", "--precision", "bf16", "--zero", "2", "--workers", "2" if tiny else "8", "--device", device,
        "--out", str(work / "train"), "--overwrite", *(() if tiny else ("--recipe", "kinetics400")),
    )  # fmt: skip
    return Part(name="train", command=line, limit=900)


def _short_suites(work: Path, device: str, tiny: bool) -> list[Part]:
    """Return parts of suites, whose results the whole suites need not measure again."""
    flagships = ("tsm/r50_8f", "video_swin/t", "vivit/b", "mvit/b_16x4", "timesformer/b")
    some = _few(tiny) or tuple(word for name in flagships for word in ("--only", name))
    swin = _few(tiny) or ("--only", "video_swin/t")
    return [
        _suite(work, "short_quick", "quick", device, 600, *THREE, out="quick"),
        _suite(work, "short_latency", "latency", device, 600, *some, out="latency"),
        _suite(work, "short_modes", "modes", device, 600, *swin, out="modes"),
    ]


def chosen(every: Sequence[Part], short: bool, only: Sequence[str]) -> list[Part]:
    """Return the parts to run: those named, those of `SHORT` with their limits, or all but its own."""
    by_name = {part.name: part for part in every}
    if strange := [name for name in only if name not in by_name]:
        raise SystemExit(f"reference.py: no part {strange[0]}: choose of {', '.join(by_name)}")
    if only:
        return [by_name[name] for name in only]
    if short:
        return [replace(by_name[name], limit=seconds) for name, seconds in SHORT.items()]
    return [part for part in every if not part.name.startswith("short_")]


def run(
    todo: Sequence[Part], out: Path, deadline: float, say: Callable[[str], None] = print
) -> list[dict[str, object]]:
    """Run the parts that have not ended well before, each under its limit and all before the deadline (monotonic)."""
    found = []
    for part in todo:
        state = out / "parts" / f"{part.name}.json"
        if state.exists() and json.loads(state.read_text())["state"] == "done":
            say(f"{part.name:24} done before")
            found.append(json.loads(state.read_text()))
            continue
        limit = min(part.limit, deadline - time.monotonic())
        if limit < LEAST:
            say(f"{part.name:24} skipped: no time is left")
            found.append({"name": part.name, "state": "skipped", "seconds": 0.0})
            continue
        say(f"{part.name:24} …")
        found.append(_run(part, out, limit))
        say(f"{part.name:24} {found[-1]['state']} in {found[-1]['seconds']:.0f} s: {_last(out, part)}")
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text(json.dumps(found[-1]))
    return found


def _run(part: Part, out: Path, limit: float) -> dict[str, object]:
    log = out / "logs" / f"{part.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    environment = {**os.environ, "REELBENCH_REQUIRE_GPU": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            part.command, stdout=file, stderr=subprocess.STDOUT, cwd=out, env=environment, start_new_session=True
        )
        try:
            code = process.wait(limit)
            state = "failed" if code else "done"
        except subprocess.TimeoutExpired:
            state, code = "cut short", None
            _end(process)
    log.write_bytes(log.read_bytes()[-LOG_BYTES:])
    return {"name": part.name, "state": state, "exit": code, "seconds": round(time.monotonic() - begin, 1)}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a part and what it started; a suite keeps what it has finished."""
    os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last(out: Path, part: Part) -> str:
    lines = (out / "logs" / f"{part.name}.txt").read_text(errors="replace").split("\n")
    return next((line.strip()[:160] for line in reversed(lines) if line.strip()), "no output")


def collect(every: Sequence[Part], found: Sequence[dict[str, object]], work: Path, out: Path) -> None:
    """Gather the suites' results and what became of each part: results.jsonl, environment.json, README.md, a report.

    What an earlier call did counts too.
    """
    folders = sorted({part.results for part in every if part.results and (part.results / "results.jsonl").exists()})
    (out / "results.jsonl").write_text("".join((folder / "results.jsonl").read_text() for folder in folders))
    for folder in folders[:1]:
        (out / "environment.json").write_text((folder / "environment.json").read_text())
    known = {part.name: out / "parts" / f"{part.name}.json" for part in every}
    before = {name: json.loads(path.read_text()) for name, path in known.items() if path.exists()}
    ended = {**before, **{row["name"]: row for row in found}}
    rows = [f"| {row['name']} | {row['state']} | {row['seconds']} |" for row in ended.values()]
    text = [
        "# What was measured",
        "",
        "| part | state | seconds |",
        "|---|---|---|",
        *rows,
        "",
        *training(work / "train"),
    ]
    (out / "README.md").write_text("\n".join(text) + "\n")
    if folders:
        for kind, suffix in (("html", "html"), ("markdown", "md")):
            names = map(str, folders)
            subprocess.run(_cli("report", *names, "--format", kind, "--to", str(out / f"report.{suffix}")), check=False)


def training(folder: Path) -> list[str]:
    """Return what the log of a training says of its steps after the first ten, in a line."""
    log = folder / "train.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    steady = rows[10:]
    if not steady:
        return []
    wait, passed = (statistics.median(row[name] for row in steady) for name in ("wait", "compute"))
    return [
        f"Training: {len(rows)} steps; the median step after the first ten waits {1e3 * wait:.1f} ms for its videos "
        f"({100 * wait / (wait + passed):.1f} %) and computes {1e3 * passed:.1f} ms."
    ]


def gpu() -> str | None:
    """Return the name of the GPU, fit for a folder; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(0).lower()).strip("-")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"the most valuable {SHORT_SECONDS // 60} minutes")
    parser.add_argument("--seconds", type=float, help=f"the time for all parts; with --short {SHORT_SECONDS}")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="run this part; give several")
    parser.add_argument("--list", action="store_true", help="name the parts and their limits")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run with TSM alone")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "gpu", help="films, trainings, suites' folders")
    parser.add_argument("--out", type=Path, help="what is kept: reports/reference/<gpu>")
    given = parser.parse_args(arguments)
    work = given.work.absolute()
    every = parts(work, given.device)
    todo = chosen(every, given.short, given.only)
    if given.list:
        print(*(f"{part.name:24} {part.limit:6.0f} s  {' '.join(part.command[1:])}" for part in todo), sep="\n")
        return 0
    name = gpu() if given.device == "cuda" else "dry-run"
    if name is None:
        print(*(f"{part.name:24} skipped: no GPU" for part in todo), sep="\n")
        return int(os.environ.get("REELBENCH_REQUIRE_GPU") == "1")
    out = (given.out or (ROOT / "reports" / "reference" / name if given.device == "cuda" else work / name)).absolute()
    out.mkdir(parents=True, exist_ok=True)
    most = SHORT_SECONDS if given.short else math.inf
    found = run(todo, out, time.monotonic() + (most if given.seconds is None else given.seconds))
    collect(every, found, work, out)
    print(f"-> {out}")
    return int(any(row["state"] != "done" for row in found))


if __name__ == "__main__":
    sys.exit(main())
