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

import numpy as np
from av import Packet, VideoCodecContext

from . import _order_count, _pictures
from ._order_count import Count

IN_ORDER = ("h263",)  # without reordering, though its extensions would allow it
TYPED = ("mpeg4", "mpeg1video", "mpeg2video")  # the order of display follows from the kinds of pictures
COUNTED = ("h264", "hevc")
FIRST = 12  # packets whose order counts are compared with their times, beside those of key frames
SHORT = 4  # packets of a group that may well hold no B picture, though the stream has some
JUMP = 10.0  # seconds between two packets of a transport stream, after which FFmpeg takes it for another recording


class Packets:
    """What is known of a stream's packets without decoding them, in decoding order: times, and which are key frames.

    `kinds` holds the kinds (see `_pictures`) of those that were looked into: of key frames, and where those tell, of
    all; in each group of H.264 until the times show that there is reordering. `orders` holds counts (`_order_count`) of
    key frames, and where H.264 announces reordering, of as many as `kinds`. `true` says that no picture looked into is
    hidden, and that key frames are such.
    """

    def __init__(self, context: VideoCodecContext) -> None:
        self.codec, self.extradata = context.codec.canonical_name, context.extradata or b""
        self.pts: list[int | None] = []
        self.dts: list[int | None] = []
        self.keys: list[bool] = []
        self.kinds: list[str | None] = []
        self.orders: list[Count | None] = []
        self.true = True
        self._readable = self.codec in _pictures.CODECS
        self._looks, self._last = self.codec in (*TYPED, "vp9", "h264"), -(1 << 63)
        self._counts = self.codec == "h264" and context.has_b_frames

    def add(self, packet: Packet) -> None:
        """Add a packet, which is not empty."""
        pts, key = packet.pts, packet.is_keyframe
        self.pts.append(pts)
        self.dts.append(packet.dts)
        self.keys.append(key)
        if self.codec == "h264" and pts is not None:
            self._looks, self._last = key or (self._looks and pts > self._last), pts
        counted = self.codec in COUNTED and (key or len(self.keys) <= FIRST or (self._counts and self._looks))
        self.orders.append(None)
        looked = self._readable and (key or counted or self._looks)
        self.kinds.append(self._kind(packet, key, counted) if looked else None)

    def _kind(self, packet: Packet, key: bool, counted: bool) -> str:
        if self.codec in COUNTED:
            units = list(_pictures.units(self.codec, packet, self.extradata))
            kind = _pictures.kind_of_units(self.codec, units)
            if counted:
                self.orders[-1] = _order_count.read(self.codec, units, self.extradata)
        else:
            kind = _pictures.kind(self.codec, packet)
        self.true = self.true and kind != "" and (kind == "I" or not key)
        return kind

    def times(self) -> np.ndarray | None:
        """Return pts as int64; where a container has none (AVI), the dts, or else the numbers.

        None if some repeat or lack.
        """
        for found in (self.pts, self.dts):
            known = [time for time in found if time is not None]
            if len(set(known)) < len(known):
                return None
            if len(known) == len(found):
                return np.array(known, dtype=np.int64)
        return np.arange(len(self.pts), dtype=np.int64)


def is_plain(packets: Packets, context: VideoCodecContext, *, container: str, tick: float) -> bool:
    """Whether the times of packets give the order of the pictures, and all of them are shown.

    `container` is FFmpeg's name of the format, `tick` the seconds of a time unit. In an AVI, times are numbers.
    """
    if container == "mpeg":  # not each of its pictures has a time, and after a seek FFmpeg guesses others
        return False
    if not (context.width and packets.keys and packets.keys[0] and packets.true):
        return False
    pts, codec = packets.times(), context.codec
    if pts is None or not _clock_runs(packets, container, tick):
        return False
    if len(pts) > 1 and packets.kinds[0] is None and not codec.intra_only and all(packets.keys):
        return False
    if not codec.reorder or packets.codec in IN_ORDER:
        return bool((np.diff(pts) > 0).all())
    return None not in packets.pts and _apart(packets, pts) and _in_coded_order(packets, pts, context, container)


def _clock_runs(packets: Packets, container: str, tick: float) -> bool:
    """Whether decoding times ascend, and none is after the picture's own. Matroska stores none: FFmpeg guesses them."""
    if container.startswith("matroska"):
        return True
    pairs = [(dts, pts) for dts, pts in zip(packets.dts, packets.pts, strict=True) if dts is not None]
    if any(pts is not None and dts > pts for dts, pts in pairs):
        return False
    steps = np.diff(np.array([dts for dts, _ in pairs], np.int64))
    return bool((steps > 0).all()) and not (container == "mpegts" and (steps * tick > JUMP).any())


def _apart(packets: Packets, pts: np.ndarray) -> bool:
    """Whether all pictures from each key frame on are later than all before, and none is before the first."""
    before = np.maximum.accumulate(pts)[:-1]
    after = np.minimum.accumulate(pts[::-1])[::-1][1:]
    return bool(pts[0] == pts.min() and (after > before)[np.array(packets.keys[1:], bool)].all())


def _in_coded_order(packets: Packets, pts: np.ndarray, context: VideoCodecContext, container: str) -> bool:
    """Whether a reordering codec's pictures, as far as their headers tell, have the order of their times."""
    if packets.codec in TYPED:
        return np.array_equal(np.argsort(pts), _displayed(packets.kinds))
    if packets.codec not in COUNTED or container == "avi" or not _continuous(packets, pts):
        return False
    starts = np.flatnonzero(packets.keys).tolist()
    if not _counted(packets.orders[: min([FIRST, *starts[1:2]])], pts):
        return False
    groups = [slice(first, last) for first, last in itertools.pairwise([*starts, len(pts)])]
    ascending = [group for group in groups if (np.diff(pts[group]) > 0).all()]
    if context.has_b_frames and len(ascending) == len(groups) and not _counted_in(packets, groups, pts):
        return False
    if packets.codec == "hevc":
        long = any(group.stop - group.start > SHORT for group in ascending)
        return not long if context.has_b_frames else len(ascending) == len(groups)
    interlaced = container == "mpegts" and context.field_order > 1  # a packet may be half a picture
    return not interlaced and not any("B" in packets.kinds[group] for group in ascending)


def _counted_in(packets: Packets, groups: Sequence[slice], pts: np.ndarray) -> bool:
    """Whether H.264's counts say that ascending times, though it announces reordering, are not those of decoding."""
    return packets.codec == "h264" and all(_counted(packets.orders[group], pts[group]) for group in groups)


def _continuous(packets: Packets, pts: np.ndarray) -> bool:
    """Whether from each key frame to the next, the order count rises by 1, or by 2, for each frame, or begins anew."""
    places = np.argsort(np.argsort(pts))[packets.keys].tolist()
    orders = [order for order, key in zip(packets.orders, packets.keys, strict=True) if key]
    rises: list[tuple[int, int, int]] = []
    for (place, order), (following, other) in itertools.pairwise(zip(places, orders, strict=True)):
        if order is None or other is None or order.modulus != other.modulus:
            return False
        if not other.resets:
            rises.append((following - place, other.value - order.value, order.modulus))
    return any(all((step * frames - rise) % modulus == 0 for frames, rise, modulus in rises) for step in (1, 2))


def _counted(orders: Sequence[Count | None], pts: np.ndarray) -> bool:
    """Whether the first group's first pictures have the order of their times by their counts, too."""
    known = [order for order in orders if order is not None]
    half = known[0].modulus // 2 if known else 0
    if not half:
        return bool(known)
    rises = [(b.value - a.value + half) % b.modulus - half for a, b in itertools.pairwise(known)]
    values = np.cumsum([0, *rises])  # each is stored modulo a number, nearest to the one before
    return len(known) == len(orders) and np.array_equal(np.argsort(values), np.argsort(pts[: len(orders)]))


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
