"""What measures a case: a hash of each source file that builds, trains and measures its model, and the versions.

    {"models/tsm.py": "5a0c81de", "harness/measuring/timing.py": "91b2c0aa", "torch": "2.13.0", …}

Of ours the files are the model's and what it imports in `models`, the metrics' and what they import in
`harness/metrics` and `harness/measuring`, and where videos are shown the data loader's; of a user's model or metric,
its file and what it imports beside it. Reports, suites and the command line are none of them.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path

from ... import address, plugins, user_code
from ...address import Address
from ...errors import UserError
from ...spec import Case
from ..measuring import environment
from .sources import ROOT, closure, digest, hashes

Provenance = dict[str, str]
FILE = "provenance.json"  # in the folder of a training run
MEASURING = ("harness/metrics/", "harness/measuring/", "intervals.py")
LOADING = ("pipelines/source.py", "pipelines/dali.py", "pipelines/software.py")
TRAINING = tuple(
    f"harness/training/{name}.py"
    for name in ("batches", "ema", "engine", "loop", "losses", "objective", "optimizer", "schedule", "stream")
)
PROBE = ROOT / "harness/probe"
LIBRARIES = {"hf": "transformers", "timm": "timm", "torchvision": "torchvision"}
DALI = ("nvidia-dali-cuda130", "nvidia-dali-cuda120")
ENDS = 1 << 20  # bytes of a file of weights that are hashed, at either end


def collect(case: Case) -> Provenance:
    """Return what measures a case here and now, and what trains it if it has a recipe."""
    files = [path for name in case.metrics for path in closure(_metric(name), MEASURING)]
    loader = _loader() if case.shows_videos else []
    training = of_training(case) if case.recipe or case.probe else {}
    return {**of_model(case), **training, **hashes([*files, *loader]), **_versions(case)}


def of_training(case: Case) -> Provenance:
    """Return what trains a case's model: its own sources, the training loop's (or the probe's) and the data loader's.

    Versions of packages are not among them: with others a model is measured again, but not trained again.
    """
    loop = sorted(PROBE.glob("*.py")) if case.probe else [ROOT / name for name in TRAINING]
    return {**of_model(case), **hashes([*loop, *_loader()])}


def of_model(case: Case) -> Provenance:
    """Return a model's sources, or its library's version and configuration, and the content of its checkpoint.

    What cannot be found is left out: building the model says so.
    """
    found = address.parse(case.model)
    known: Provenance = {}
    with contextlib.suppress(UserError):
        known = hashes(closure(_model(found), ("models/",)))
    if found.in_library:
        known |= _library(found)
    if case.checkpoint is not None:
        pattern = os.path.expandvars(os.path.expanduser(case.checkpoint)).partition("#")[0]
        known |= {f"checkpoint {os.path.abspath(file)}": _content(Path(file)) for file in sorted(glob.glob(pattern))}
    return known


def read(folder: Path) -> Provenance:
    """Return what trained the run in a folder; {} if it is not recorded."""
    path = folder / FILE
    return json.loads(path.read_text()) if path.exists() else {}


def write(folder: Path, found: Provenance) -> None:
    """Record what trains the run in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps(found, indent=1))


def _loader() -> list[Path]:
    return [path for name in LOADING for path in closure(ROOT / name, ("pipelines/",))]


def _model(found: Address) -> Path:
    own = ROOT / "models" / f"{found.place}.py"
    if found.in_library or (found.sign == "/" and own.exists()):
        return own
    return user_code.source(found.place)


def _metric(name: str) -> Path:
    own = ROOT / "harness/metrics" / f"{name}.py"
    if own.exists():
        return own
    return user_code.source(plugins.find("harness.metrics", [])[name].place)


def _library(found: Address) -> Provenance:
    """Return the version of a library, and of a model of transformers its configuration and weights."""
    package = LIBRARIES[found.place]
    known = {package: _version(package) or "missing"}
    if found.place == "hf":
        with contextlib.suppress(ImportError, OSError, ValueError):
            known[str(found)] = _content(_snapshot(found.entry))
    return known


def _snapshot(name: str) -> Path:
    """Return the folder of a model of transformers: the one that the name is, or the Hub's in the cache."""
    if Path(name).is_dir():
        return Path(name)
    found = importlib.import_module("huggingface_hub").try_to_load_from_cache(name, "config.json")
    if not isinstance(found, str):
        raise FileNotFoundError(name)
    return Path(found).parent


def _content(path: Path) -> str:
    """Return a hash of a file, or of the files in a folder: of the names, the sizes, and both ends of each."""
    if path.is_dir():
        return digest("".join(_content(file) for file in sorted(path.rglob("*")) if file.is_file()).encode())
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(ENDS)
        file.seek(max(0, size - ENDS))
        return digest(f"{path.name} {size} ".encode() + start + file.read(ENDS))


def _versions(case: Case) -> Provenance:
    names = ["torch"]
    names += ["fvcore"] if "flops" in case.metrics else []
    names += [*DALI, "av"] if case.shows_videos else []
    names += ["deepspeed"] if case.recipe else []
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    versions |= {name: version for name in names if (version := _version(name))}
    drivers = {str(gpu["driver"]) for gpu in environment.gpus()} if case.device == "cuda" else set()
    return versions | ({"driver": ", ".join(sorted(drivers))} if drivers else {})


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
