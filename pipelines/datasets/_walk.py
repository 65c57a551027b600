"""Finds the videos below a folder, and counts what it passes over.

Files are videos by their suffix; a folder that holds numbered pictures and no video is one, too. Left out are hidden
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
FRAMES = frozenset((".jpg", ".jpeg", ".png"))
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


def visible(name: str) -> bool:
    """Whether a name is neither hidden nor that of a folder that a system makes."""
    return not name.startswith(".") and name not in SYSTEM


def walk(top: Path, found: Found | None = None) -> Found:
    """Add the videos at any depth below a folder to `found`, and return it.

    The folder itself is none, whatever it holds. One that cannot be read is skipped with the reason.
    """
    found = Found() if found is None else found
    found.passed_over += _walk(top, tuple(top.resolve().parents), found)
    return found


def _walk(folder: Path, above: tuple[Path, ...], found: Found) -> Counter[str]:
    """Add what lies below a folder. If the folder itself is a video, return its frames by suffix, else nothing.

    A data set of frames has millions of files: each folder is listed once, and no file is looked at.
    """
    try:
        with os.scandir(folder) as listed:
            entries = sorted((entry for entry in listed if visible(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        found.skipped.append(SkippedVideo(str(folder), f"cannot be read: {error.strerror}"))
        return Counter()
    chain, videos, pictures = (*above, folder), len(found.videos), Counter[str]()
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir():
            if not (entry.is_symlink() and _is_among(path, chain)) and _walk(path, chain, found):
                found.videos.append(path)
        elif path.suffix.lower() not in VIDEOS:
            (pictures if path.suffix.lower() in FRAMES else found.passed_over)[path.suffix] += 1
        elif not entry.is_symlink() or path.exists():
            found.videos.append(path)
        else:
            found.skipped.append(SkippedVideo(str(path), "a link to nothing"))
    if len(found.videos) == videos and _are_frames(pictures.total(), [entry.name for entry in entries]):
        return pictures
    found.passed_over += pictures  # thumbnails
    return Counter()


def _are_frames(pictures: int, names: list[str]) -> bool:
    """Whether some names are those of frames, or all of them of pictures (`scan` says what is wrong with those)."""
    return any(map(_frames.NAME.fullmatch, names)) or 0 < pictures == len(names)


def _is_among(path: Path, folders: tuple[Path, ...]) -> bool:
    return any(os.path.samefile(path, folder) for folder in folders)
