"""Tells from a file's packets whether it is plain: sorted by time, they are the pictures that a decoder shows.

A decoder gives the pictures in the order that is coded in them, whatever the times of the packets say. In files that
were cut, joined, or copied from another container, times repeat, go back, lack, or are those of decoding, key frames
are not marked, and pictures lie before the first key frame or lack their reference. Such a file is decoded once, when
it is indexed (`_shown`).

    plain       I0 P3 B1 B2 P6 B4 B5 I9 B7 B8     no group begins in time before the one before it has ended
    not plain   I0 P1 B2 B3     I0 P0 P1 P1     I2 B0 B1     P0 P1 I2
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from av import Packet, VideoCodecContext

from . import _order_count, _pictures
from ._order_count import Count

IN_ORDER = ("h263",)  # without reordering, though its extensions would allow it
JUMP = 10.0  # seconds between two packets of a transport stream, after which FFmpeg takes it for another recording


class Row(NamedTuple):
    """What is known of a packet without decoding it.

    `kind` is that of `_pictures`, None if it was not looked at; `order` is the count of `_order_count`, of key frames.
    """

    pts: int | None
    dts: int | None
    key: bool
    kind: str | None = None
    order: Count | None = None


class Reader:
    """Reads a stream's packets into rows; looks into those whose kind matters.

    Of a reordering codec, these are all until the times show that there is reordering.
    """

    def __init__(self, context: VideoCodecContext) -> None:
        self.codec, self.extradata = context.codec.canonical_name, context.extradata or b""
        self.readable = self.codec in _pictures.CODECS
        self.counted = self.codec in ("h264", "hevc")
        self.always = self.codec in ("mpeg4", "mpeg1video", "mpeg2video", "vp9")
        self.ordered, self.last = self.codec == "h264", -(1 << 63)

    def row(self, packet: Packet) -> Row:
        """Return the row of a packet, which is not empty."""
        pts, key = packet.pts, packet.is_keyframe
        if pts is not None:
            self.ordered, self.last = self.ordered and pts > self.last, pts
        if not self.readable or not (key or self.always or self.ordered):
            return Row(pts, packet.dts, key)
        kind, order = _pictures.kind(self.codec, packet, self.extradata), None
        if key and self.counted:
            order = _order_count.read(self.codec, _pictures.units(self.codec, packet, self.extradata), self.extradata)
        return Row(pts, packet.dts, key, kind, order)


def is_plain(context: VideoCodecContext, rows: Sequence[Row], *, container: str, tick: float) -> bool:
    """Whether the times of these packets, in decoding order, give the order of the pictures, and all of them are shown.

    `container` is FFmpeg's name of the format, `tick` the seconds of a time unit. In an AVI, times are numbers.
    """
    codec = context.codec
    if container == "mpeg":  # not each of its pictures has a time, and after a seek FFmpeg guesses others
        return False
    if (
        not context.width
        or not rows
        or not rows[0].key
        or any(row.kind == "" or (row.key and row.kind in ("P", "B")) for row in rows)
    ):
        return False
    if len(rows) > 1 and not codec.intra_only and all(row.key and row.kind is None for row in rows):
        return False
    reorders = codec.reorder and codec.canonical_name not in IN_ORDER
    pts, dts = times([row.pts for row in rows], [row.dts for row in rows]), [row.dts for row in rows]
    if container.startswith("matroska"):  # it stores none, and FFmpeg guesses them
        dts = [None] * len(rows)
    known = np.array([time for time in dts if time is not None], np.int64)
    if pts is None or (reorders and any(row.pts is None for row in rows)) or (np.diff(known) <= 0).any():
        return False
    if container == "mpegts" and (np.diff(known) * tick > JUMP).any():
        return False
    if not reorders:
        return bool((np.diff(pts) > 0).all())
    late = any(time is not None and time > shown for time, shown in zip(dts, pts.tolist(), strict=True))
    return (
        not late and _apart(pts, np.array([row.key for row in rows])) and _in_coded_order(context, rows, pts, container)
    )


def times(pts: Sequence[int | None], dts: Sequence[int | None]) -> np.ndarray | None:
    """Return pts as int64; where a container has none (AVI), the dts, or else the numbers.

    None if some repeat or lack.
    """
    for found in (pts, dts):
        known = [time for time in found if time is not None]
        if len(set(known)) < len(known):
            return None
        if len(known) == len(found):
            return np.array(known, dtype=np.int64)
    return np.arange(len(pts), dtype=np.int64)


def _apart(pts: np.ndarray, keys: np.ndarray) -> bool:
    """Whether all pictures from each key frame on are later than all before, and none is before the first."""
    before = np.maximum.accumulate(pts)[:-1]
    after = np.minimum.accumulate(pts[::-1])[::-1][1:]
    return bool(pts[0] == pts.min() and (after > before)[keys[1:]].all())


def _in_coded_order(context: VideoCodecContext, rows: Sequence[Row], pts: np.ndarray, container: str) -> bool:
    """Whether a reordering codec's pictures, as far as their headers tell, have the order of their times."""
    codec, kinds = context.codec.canonical_name, [row.kind for row in rows]
    if codec in ("mpeg4", "mpeg1video", "mpeg2video"):
        return np.array_equal(np.argsort(pts), _displayed(kinds))
    if codec not in ("h264", "hevc") or container == "avi" or not _continuous(rows, pts):
        return False
    ascending = bool((np.diff(pts) > 0).all())
    if codec == "hevc":
        return ascending != context.has_b_frames
    interlaced = container == "mpegts" and context.field_order > 1  # a packet may be half a picture
    return not interlaced and not (ascending and (context.has_b_frames or "B" in kinds))


def _continuous(rows: Sequence[Row], pts: np.ndarray) -> bool:
    """Whether from each key frame to the next, the order count rises by 1, or by 2, for each frame, or begins anew."""
    places = np.argsort(np.argsort(pts)).tolist()
    keys = [(place, row.order) for place, row in zip(places, rows, strict=True) if row.key]
    rises: list[tuple[int, int, int]] = []
    for (place, order), (following, other) in itertools.pairwise(keys):
        if order is None or other is None or order.modulus != other.modulus:
            return False
        if not other.resets:
            rises.append((following - place, other.value - order.value, order.modulus))
    return any(all((step * frames - rise) % modulus == 0 for frames, rise, modulus in rises) for step in (1, 2))


def _displayed(kinds: Sequence[str | None]) -> list[int]:
    """Return the packets' numbers in the order of display of MPEG-1, 2 and 4: I and P wait for the next I or P."""
    order: list[int] = []
    held: int | None = None
    for number, kind in enumerate(kinds):
        if kind == "B":
            order.append(number)
            continue
        if held is not None:
            order.append(held)
        held = number
    return order if held is None else [*order, held]
