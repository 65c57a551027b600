"""The commands and the Python of the README and the documentation run, from a wheel in an empty environment and folder.

Small data and micro models stand in for what the pages name (`documented.SUBSTITUTES`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reelbench import models
from reelbench.pipelines.index import Index
from reelbench.tests import documented

ROOT = documented.ROOT
SMALL_CLIP = {"frames": 8, "size": 32, "short_side": 32}
# Runs command lines, and Python, in one process: each would spend seconds on importing torch.
DRIVER = """
import contextlib, io, json, sys, time, traceback
import reelbench
from reelbench.harness import cli

def failure(words):
    sys.argv, said = ["reelbench", *words], io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main() if words[0] != "python" else exec(words[1], {})
        except SystemExit as ended:
            undecided = words[0] == "compare" and ended.code == 3
            if ended.code and words != ["doctor"] and not undecided:  # it may find something missing here
                return said.getvalue()[-1500:]
        except BaseException:
            return traceback.format_exc()[-1500:]

if __name__ == "__main__":
    ran, told = [], {"from": reelbench.__file__}
    for words in json.load(open(sys.argv[1])):
        before = time.process_time()
        ran.append([words, failure(words), time.process_time() - before])
    json.dump({**told, "ran": ran}, open("ran.json", "w"))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that ReelBench is installed in, from its wheel; it sees our other packages."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    interpreter = folder / "env" / "bin" / "python"
    site = next((folder / "env").glob("lib/python*/site-packages"))
    # A line in a .pth adds a folder but reads no .pth in it, such as that of our own editable installation.
    (site / "others.pth").write_text("\n".join(place for place in sys.path if place.endswith("-packages")))
    source = folder / "source"  # a build leaves files
    kept = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "node_modules", "tests", "site", "__pycache__")
    shutil.copytree(ROOT, source, ignore=kept)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    built = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run([*pip, *built], check=True)
    (wheel,) = folder.glob("*.whl")
    installed = ["--python", interpreter, "install", "--no-deps", "--no-compile", wheel]
    subprocess.run([*pip, *installed], check=True)
    return interpreter


@pytest.fixture
def folder(tiny_synthetic: dict[str, Path], tmp_path: Path) -> Path:
    """A folder that has what the pages' commands read, and nothing else."""
    shutil.copytree(tiny_synthetic["train"].parent, tmp_path / "data")
    for code in documented.python():
        if code.startswith("# ") and ".py" in code.split(":")[0].splitlines()[0]:
            (tmp_path / code.split()[1].rstrip(":")).write_text(_small(code))
    for run in ("quick", "mine", "before", "after", "accuracy", "published", "latency"):
        own = ROOT / "reports" / "reference" / "cpu" / run
        shutil.copytree(own if own.is_dir() else own.parent, tmp_path / "runs" / run)
    _videos(tmp_path)
    (tmp_path / "diving48.json").write_text(json.dumps(SMALL_CLIP))
    (tmp_path / "weights").mkdir()
    for name in (*documented.MICRO_MODELS, str(tmp_path / "net.py/net")):
        family = Path(name).parent.name
        models.save(models.build(name, num_classes=8), tmp_path / "weights" / f"{family}.safetensors")
    return tmp_path


def _small(code: str) -> str:
    """Return a suite of the pages with a micro model at its size."""
    return code.replace("video_swin/t", "video_swin/micro").replace("stride=2)", "stride=2, size=32, short_side=32)")


def _videos(folder: Path) -> None:
    """Lay out videos as a folder of classes, with a list and a table of them, and their index; and one alone."""
    index = Index.load(folder / "data" / "val.parquet")
    lines = []
    for number, video in enumerate(index):
        kind = "ab"[number % 2]
        file = folder / "my_videos" / kind / Path(video.path).name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(index.root / video.path, file)
        lines.append((f"{kind}/{file.name}", number % 2))
    shutil.copy(file, folder / "clip.mp4")
    (folder / "my_videos" / "list.txt").write_text("".join(f"{name} {label}\n" for name, label in lines))
    (folder / "my_videos" / "labels.csv").write_text("path,label\n" + "".join(f"{n},{label}\n" for n, label in lines))


def run(python: Path, folder: Path, commands: list[list[str]]) -> list[list[object]]:
    """Run commands in one process in the folder; return those that failed, with what they said."""
    (folder / "driver.py").write_text(DRIVER)
    (folder / "commands.json").write_text(json.dumps(commands))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "REELBENCH"))}
    environment = {**clean, "HOME": str(folder / "home"), "PATH": f"{python.parent}:{os.environ['PATH']}"}
    subprocess.run([python, "driver.py", "commands.json"], cwd=folder, env=environment, check=True)
    told = json.loads((folder / "ran.json").read_text())
    assert Path(told["from"]).is_relative_to(python.parents[1]), "not the wheel's"
    return [[words, said] for words, said, _ in told["ran"] if said is not None]


@pytest.mark.slow  # builds and installs a wheel, and runs some forty commands
def test_quick_commands_and_python_run_from_a_wheel(python: Path, folder: Path) -> None:
    blocks = [["python", code] for code in documented.python() if not code.startswith("# ")]
    commands = documented.runnable(quick=True)
    assert len(commands) >= 24
    assert len(blocks) >= 3
    assert run(python, folder, [*commands, *blocks]) == []
    assert {"clip.gif", "heads.gif", "report.html", "report.png", "table.tex", "tsm.parquet", "base.json"} <= {
        path.name for path in folder.iterdir()
    }


@pytest.mark.exhaustive  # trains, times and exports, for minutes
@pytest.mark.timeout(3600)
def test_slow_commands_run_from_a_wheel(python: Path, folder: Path) -> None:
    models.save(models.build("tsm/mobileone_s4_16f"), folder / "weights" / "mobileone.safetensors")
    commands = [
        ["data", "index", "folder", "my_videos", "--to", "my_videos.parquet"],
        *documented.runnable(quick=False),
    ]
    failed = [told for command in commands for told in run(python, folder, [command])]
    assert failed == []
