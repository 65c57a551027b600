"""Finds the videos below a folder, and counts what it passes over.

Files are videos by their suffix; a folder that holds numbered JPEG files and no video is one, too. Left out are hidden
names, folders that systems make, and links that lead back to a folder above.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .. import _frames
from .._video import SkippedVideo

# What FFmpeg's demuxers of moving pictures take: containers, raw streams, disks and cameras.
VIDEOS = frozenset((
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".divx", ".xvid", ".wmv",
    ".asf", ".flv", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".mpv", ".mp2v", ".vob", ".evo", ".ts", ".mts",
    ".m2ts", ".m2t", ".trp", ".tp", ".tod", ".mod", ".ogv", ".ogm", ".rm", ".rmvb", ".mxf", ".gxf", ".dv",
    ".dif", ".nut", ".ivf", ".y4m", ".nsv", ".wtv", ".dvr-ms", ".amv", ".mjpg", ".mjpeg", ".gif", ".h264",
    ".264", ".avc", ".h265", ".265", ".hevc", ".vc1", ".obu", ".av1",
))  # fmt: skip
FRAMES = frozenset((".jpg", ".jpeg"))
SYSTEM = frozenset(
    ("__MACOSX", "@eaDir", "#recycle", "#snapshot", "lost+found", "$RECYCLE.BIN", "System Volume Information")
)


@dataclass
class Found:
    """What lies below folders: the videos, sorted by path, the other files by suffix, and what cannot be read."""

    videos: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    skipped: list[SkippedVideo] = field(default_factory=list)

    def note(self) -> str:
        """Return a sentence about the files that were passed over; "" if there are none."""
        kinds = ", ".join(f"{count} {suffix or 'without one'}" for suffix, count in self.passed_over.most_common())
        return f"passed over by their suffix: {kinds}" if kinds else ""


def visible(path: Path) -> bool:
    """Whether a name is neither hidden nor that of a folder that a system makes."""
    return not path.name.startswith(".") and path.name not in SYSTEM


def walk(top: Path, found: Found | None = None) -> Found:
    """Add the videos at any depth below a folder to `found`, and return it.

    The folder itself is none, whatever it holds. One that cannot be read is skipped with the reason.
    """
    found = Found() if found is None else found
    _walk(top, tuple(map(_identity, [*top.resolve().parents])), found)
    return found


def _walk(folder: Path, above: tuple[tuple[int, int], ...], found: Found) -> None:
    try:
        children = sorted(path for path in folder.iterdir() if visible(path))
        chain = (*above, _identity(folder))
    except OSError as error:
        found.skipped.append(SkippedVideo(str(folder), f"cannot be read: {error.strerror}"))
        return
    for path in children:
        if path.is_dir():
            if not path.is_symlink() or _identity(path) not in chain:
                _descend(path, chain, found)
        elif path.suffix.lower() not in VIDEOS:
            found.passed_over[path.suffix] += 1
        elif path.exists():
            found.videos.append(path)
        else:
            found.skipped.append(SkippedVideo(str(path), "a link to nothing"))


def _descend(path: Path, chain: tuple[tuple[int, int], ...], found: Found) -> None:
    """Take a folder as frames, or else what lies below it: a picture beside videos is a thumbnail."""
    below = Found()
    _walk(path, chain, below)
    frames = _pictures(path) and not below.videos
    for suffix in FRAMES if frames else ():
        del below.passed_over[suffix], below.passed_over[suffix.upper()]
    found.videos += [path] if frames else below.videos
    found.passed_over += below.passed_over
    found.skipped += below.skipped


def _pictures(folder: Path) -> bool:
    """Whether a folder holds JPEG files that are named like frames, or JPEG files alone (`scan` says what is wrong)."""
    try:
        names = [path.name for path in folder.iterdir() if visible(path)]
    except OSError:
        return False
    jpegs = [name for name in names if Path(name).suffix.lower() in FRAMES]
    return any(map(_frames.NAME.fullmatch, jpegs)) or bool(jpegs) and len(jpegs) == len(names)


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
