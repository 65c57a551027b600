"""The commands and the Python that the README and the documentation show, and what stands in for what they need."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reelbench import models

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "examples" / "plugin" / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
TRAINING = "reelbench.harness.training"


@dataclass(frozen=True)
class Command:
    """One command line of a page, in words, without the variables set before it and its redirections."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"

    @property
    def arguments(self) -> list[str] | None:
        """What the command gives to `reelbench`, also through a launcher; None if it is another program's."""
        if self.words[0] == "reelbench":
            return list(self.words[1:])
        if TRAINING in self.words:
            return ["train", *self.words[self.words.index(TRAINING) + 1 :]]
        return None


def commands() -> list[Command]:
    """Return every command line of the pages' blocks, in order, each once."""
    found = (Command(path.name, words) for path in PAGES for line in _lines(path) if (words := _words(line)))
    return list(dict.fromkeys(found))


def inline() -> list[tuple[str, str]]:
    """Return what stands between backquotes in the pages' prose, line breaks removed, beside the page's name."""
    texts = ((path.name, BLOCK.sub("", path.read_text(encoding="utf-8"))) for path in PAGES)
    return [(name, " ".join(code.split())) for name, text in texts for code in INLINE.findall(text)]


def python() -> list[str]:
    """Return the Python blocks of the pages, each once, but for what needs a GPU."""
    blocks = (block for path in PAGES for block in BLOCK.findall(path.read_text(encoding="utf-8")))
    return list(dict.fromkeys(code for kind, code in blocks if kind == "python" and "nvidia.dali" not in code))


def _lines(path: Path) -> Iterator[str]:
    for kind, block in BLOCK.findall(path.read_text(encoding="utf-8")):
        if kind in ("", "yaml"):
            yield from block.replace("\\\n", " ").splitlines()


def _words(line: str) -> tuple[str, ...]:
    words = shlex.split(line.strip().removeprefix("- run: "), comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return tuple(words)


# What needs several machines, a network, a data set, or a model that no micro stands in for: it is parsed only.
ONLY_PARSED = (
    "--hostfile",
    "--annotator",
    "hf:facebook/vjepa2-vitl-fpc64-256",
    "timm:resnet50",
    "--rivals",
    "/data/kinetics400",
    "accuracy",
    "slack",
    "example",
)
MICRO_MODELS = tuple(name for name in models.names() if name.endswith("/micro"))
MICROS = "|".join(name.partition("/")[0] for name in MICRO_MODELS)
DUMPED = "tsm.parquet"
SMALLEST = "tsm/mobilenetv2_online"  # of the suites of the whole zoo
# What stands in for what the pages name. `weights/FAMILY.safetensors` are random ones of 8 classes.
SUBSTITUTES = (
    (rf"^({MICROS})/(?!mobileone)\w+$", r"\1/micro"),
    (r"^(tsm/)\*$", r"\1micro"),
    (r"^\S*val_list.txt$|^\S*k400_(train|val).txt$", "my_videos/list.txt"),
    (r"^\S*labels.csv$", "my_videos/labels.csv"),
    (r"^/data/my_videos$", "my_videos"),
    (r"^/data/(motions|pairs)$", r"made/\1"),
    (r"^/fast/k400$", "fast"),
    (r"^((k400|sthv2)_)?train.parquet$", "data/train.parquet"),
    (r"^((k400|sthv2)_)?val.parquet$|^diving48_test.parquet$", "data/val.parquet"),
    (r"^mobileone.pth$", "weights/mobileone.safetensors"),
    (r"^backbone\.blocks\.3\.1$", "backbone.blocks.1.1"),
)
# What is added to verbs, so that they are small; and options that a micro variant has no file for.
ADDED = {
    "train": ("--epochs", "1", "--batch", "8", "--device", "cpu"),
    "synth": ("--train", "2", "--val", "2", "--test", "2"),
    "bench": ("--seconds", "0.5"),
    "eval": ("--workers", "1"),
    "plan": ("--batch", "8"),
}
VALUES = {"--gpus": "2", "--rounds": "2"}
DROPPED = ("--pretrained", "--workers")


def substituted(arguments: list[str]) -> list[str]:
    """Return the arguments with small data, micro models and files that exist in place of what the pages name."""
    words = [_substitute(word) for word in arguments]
    model = next((word for word in words if re.fullmatch(rf"({MICROS})/\w+|net.py/net", word)), None)
    words = [_weights(word, model) for word in words]
    has_recipe = model in models.names() and {*words} & {*models.find(str(model)).recipes}
    words = _without(words, *DROPPED, *(() if has_recipe else ("--recipe",)))
    for verb in words[:2] if "--job" not in words else ():  # a job names all that
        words += ADDED.get(verb, ())
    if words[0] == "train" and not {"--resume", "--job"} & {*words}:
        words.append("--overwrite")
    if words[0] == "run" and words[1] in ("latency", "published"):
        words = [*_without(words, "--only"), "--only", SMALLEST]
    if words[:2] == ["data", "index"] and words[2] != "folder":
        words[words.index("--to") + 1] = "indexed.parquet"
    if words[0] == "predictions":
        words[1:] = [DUMPED]  # which a command before has written
    if "--interleave" in words and "--rounds" not in words:
        words += ["--rounds", "2"]
    return [VALUES.get(before, word) for before, word in zip(["", *words], words, strict=False)]


def is_quick(words: list[str]) -> bool:
    """Whether a command neither trains, times nor exports, nor starts reading processes, but for one test."""
    slow = {
        "train", "run", "time", "plan", "export", "bench", "certify", "transcode", "show", "--gpus", "--plugin",
        "--reparameterize", "runs/train",
    }  # fmt: skip
    return not slow & {*words} and (words[0] != "eval" or DUMPED in words)


def runnable(*, quick: bool) -> list[list[str]]:
    """Return the arguments of the pages' commands to run, in order, each once: the quick ones, or the others."""
    found = [command for command in commands() if command.words[0] == "reelbench"]
    kept = [command.words[1:] for command in found if not {*ONLY_PARSED, "…"} & {*command.words}]
    every = dict.fromkeys(tuple(substituted(list(words))) for words in kept)
    return sorted(
        ([*words] for words in every if is_quick([*words]) == quick), key=lambda words: words[0] == "predictions"
    )


def _substitute(word: str) -> str:
    for pattern, other in SUBSTITUTES:
        word = re.sub(pattern, other, word)
    return word


def _weights(word: str, model: str | None) -> str:
    foreign = word.endswith(".pth") or word == "runs/train/best.safetensors"
    return f"weights/{model.split('/')[0]}.safetensors" if foreign and model else word


def _without(words: list[str], *options: str) -> list[str]:
    dropped = {at for at, word in enumerate(words) if word in options}
    return [word for at, word in enumerate(words) if at not in dropped and at - 1 not in dropped]
