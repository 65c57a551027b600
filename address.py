"""Addresses of models: what kind of place one names, without looking there (`models.find` does).

- `video_swin/t`: a variant of the zoo; `my_package.my_module/variant`, `path/mine.py/variant`: one of one's own.
- `my_package.module:function`, `path/mine.py:function`: what a function builds.
- `hf:ORG/NAME` or `hf:FOLDER`, `timm:NAME`, `torchvision:NAME`: a model of that library.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePath

LIBRARIES = ("hf", "timm", "torchvision")
FILE = re.compile(r"(?P<place>.+\.py)(?P<sign>[/:])(?P<entry>[^/:]+)")
NAME = re.compile(r"(?P<place>[^/:]+)(?P<sign>[/:])(?P<entry>[^/:]+)")


@dataclass(frozen=True)
class Address:
    """The parts of an address.

    `place` is a family of the zoo, a module, a file that ends in .py, or one of `LIBRARIES`; `entry` is a variant
    (`sign` is `/`), a function (`:`), or a library's own name of a model; empty if the text names none.
    """

    place: str
    sign: str
    entry: str

    @property
    def is_file(self) -> bool:
        """Whether `place` is a file."""
        return self.place.endswith(".py")

    @property
    def in_library(self) -> bool:
        """Whether the model is one of a library's."""
        return self.sign == ":" and self.place in LIBRARIES

    def __str__(self) -> str:
        return f"{self.place}{self.sign}{self.entry}" if self.entry else self.place


def parse(name: str) -> Address:
    """Return the parts of an address; of text that is none, all of it as the place."""
    library, sign, entry = name.partition(":")
    if library in LIBRARIES and entry:
        return Address(library, sign, entry)
    match = None if name.endswith(".py") else FILE.fullmatch(name) or NAME.fullmatch(name)
    return Address(**match.groupdict()) if match else Address(name, "/", "")


def absolute(name: str) -> str:
    """Return the address with the path of its file or folder made absolute, others as they are."""
    found = parse(name)
    if found.is_file:
        return str(Address(_path(found.place), found.sign, found.entry))
    if found.place == "hf" and found.in_library and _is_folder(found.entry):
        return str(Address("hf", ":", _path(found.entry)))
    return name


def label(name: str) -> str:
    """Return the address for people: of a path, the last folder and the file.

    >>> label("/home/me/nets/mine.py/small")
    'nets/mine.py/small'
    >>> label("video_swin/t")
    'video_swin/t'
    """
    found = parse(name)
    if found.is_file:
        return str(Address(_ending(found.place), found.sign, found.entry))
    return str(Address(found.place, found.sign, _ending(found.entry))) if found.in_library else name


def family(name: str) -> str:
    """Return the architecture, the file, the module or the library, which reports color models by.

    >>> [family(name) for name in ("tsm/r50_8f", "/home/me/nets/mine.py:small", "timm:resnet50")]
    ['tsm', 'nets/mine.py', 'timm']
    """
    return parse(label(name)).place


def _is_folder(entry: str) -> bool:
    return entry.startswith(("/", "./", "../", "~")) or os.path.isdir(entry)


def _path(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))


def _ending(path: str) -> str:
    return "/".join(PurePath(path).parts[-2:]) if path.startswith("/") else path
