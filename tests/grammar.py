"""Draws videos from a grammar of what people's files are, and builds them: packets, cut, timed and muxed anew.

codec and form of its groups x container x cut x times x orientation x color tags x size change x joint x key flags
"""

from __future__ import annotations

import io
import os
import random
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from reelbench.pipelines._colors import MATRICES, RANGES

from .numbered import picture

FRAMES = 22
STEP = 48  # of TICK: 25 pictures a second
TICK = Fraction(1, 1200)
_X265 = "log-level=none:pools=none:frame-threads=1:keyint=8:min-keyint=8:scenecut=0:b-adapt=0"
_X264 = "keyint=8:min-keyint=8:scenecut=0:b-adapt=0"
_VPX = {"deadline": "good", "cpu-used": "5", "g": "8", "crf": "10", "b": "2M"}
_HIDDEN = {**_VPX, "lag-in-frames": "6", "auto-alt-ref": "1", "arnr-maxframes": "3"}

# codec -> forms of its groups of pictures -> the encoder's options
FORMS: dict[str, dict[str, dict[str, str]]] = {
    "libx264": {
        "p": {"x264-params": f"{_X264}:bframes=0"},
        "b": {"x264-params": f"{_X264}:bframes=2"},
        "pyramid": {"x264-params": f"{_X264}:bframes=3:b-pyramid=normal"},
        "open": {"x264-params": f"{_X264}:bframes=3:open-gop=1"},
        "refresh": {"x264-params": f"{_X264}:bframes=0:intra-refresh=1"},
    },
    "libx265": {
        "p": {"x265-params": f"{_X265}:bframes=0"},
        "closed": {"x265-params": f"{_X265}:bframes=3:open-gop=0"},
        "open": {"x265-params": f"{_X265}:bframes=3:open-gop=1"},
    },
    "mpeg4": {"p": {"g": "8", "qscale": "3"}, "b": {"g": "8", "bf": "2", "qscale": "3"}},
    "mpeg2video": {"p": {"g": "8", "b": "3M"}, "b": {"g": "8", "bf": "2", "b": "3M", "sc_threshold": "1000000000"}},
    "libvpx": {"p": {**_VPX, "lag-in-frames": "0", "auto-alt-ref": "0"}, "hidden": _HIDDEN},
    "libvpx-vp9": {"p": {**_VPX, "lag-in-frames": "0", "auto-alt-ref": "0"}, "hidden": _HIDDEN},
    "libsvtav1": {"p": {"preset": "6", "crf": "8", "g": "8", "svtav1-params": "lp=1:enable-tf=0"}},
    "mjpeg": {"p": {"qmin": "2", "qmax": "3"}},
    "mpeg1video": {"p": {"g": "8", "b": "3M"}, "b": {"g": "8", "bf": "2", "b": "3M", "sc_threshold": "1000000000"}},
    "wmv2": {"p": {"g": "8", "qscale": "3"}},
    "flv": {"p": {"g": "8", "qscale": "3"}},
    "ffv1": {"p": {"g": "8"}},
    "prores_ks": {"p": {}},
}
CONTAINERS = {
    "libx264": ("mp4", "fmp4", "mov", "mkv", "ts", "flv", "avi", "h264"),
    "libx265": ("mp4", "fmp4", "mov", "mkv", "ts", "hevc"),
    "mpeg4": ("mp4", "mov", "mkv", "avi", "avi", "m4v"),
    "mpeg2video": ("ts", "mpg", "mkv", "mp4", "avi", "m2v"),
    "libvpx": ("webm", "mkv", "avi", "ivf"),
    "libvpx-vp9": ("webm", "webm", "mkv", "mp4", "ivf"),
    "libsvtav1": ("mkv", "mp4", "ivf", "obu"),
    "mjpeg": ("avi", "mov", "mkv"),
    "mpeg1video": ("mpg", "ts"),
    "wmv2": ("asf", "avi"),
    "flv": ("flv",),
    "ffv1": ("mkv", "avi", "nut"),
    "prores_ks": ("mov", "mkv"),
}
CODECS = (*CONTAINERS, *("libx264", "libx265", "libvpx-vp9") * 3)  # the usual ones more often
MUXERS = {"fmp4": ("mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}), "m4v": ("m4v", {}),
          "mkv": ("matroska", {}), "ts": ("mpegts", {}), "mpg": ("mpeg", {}), "m2v": ("mpeg2video", {})}  # fmt: skip
_BOXES = ("plain", "plain", "plain", "offset", "negative", "vfr", "gap", "decoding", "shared")
TIMES = {
    "mp4": _BOXES, "mov": _BOXES, "fmp4": ("plain", "plain", "vfr", "gap", "decoding", "shared"),
    "mkv": ("plain", "plain", "plain", "offset", "vfr", "gap", "decoding", "shared", "milliseconds"),
    "webm": ("plain", "plain", "offset", "vfr", "gap", "shared", "milliseconds"),
    "ts": ("plain", "plain", "offset", "vfr", "gap"), "flv": ("plain", "vfr"), "ivf": ("plain", "vfr"),
}  # fmt: skip
TAGS = {
    "libx264": (("bt709", "tv"), ("bt709", "pc"), ("smpte170m", "pc"), ("bt2020nc", "tv"), ("smpte240m", "tv")),
    "libx265": (("bt709", "tv"), ("bt709", "pc"), ("bt2020nc", "tv")),
    "libvpx-vp9": (("bt709", "tv"), ("smpte170m", "pc"), ("bt2020nc", "tv")),
    "libsvtav1": (("bt709", "tv"),),
}
UNTAGGED = ("unknown", "unknown")
SWSCALE = {"unknown": 5, "smpte170m": 5, "bt709": 1, "smpte240m": 7, "bt2020nc": 9}
ODD = ("libvpx", "libvpx-vp9", "mjpeg")  # whose encoders take odd sides
CHANGES = ("libvpx", "libvpx-vp9", "libx264", "libx265", "mjpeg", "mpeg2video")  # whose key frames tell their size
UPRIGHT = (1, 0, 0, 1)
TURNS = (UPRIGHT, (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0),
         (0, -1, -1, 0))  # fmt: skip
TURNED = ("mp4", "mov", "mkv")  # containers of a display matrix


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One video: `start` and `end` packets are cut off, `again` repeats it in another size; `draw` has the choices."""

    codec: str
    form: str
    container: str
    size: tuple[int, int] = (64, 48)
    tags: tuple[str, str] = UNTAGGED
    start: int = 0
    end: int = 0
    at_key: bool = True
    times: str = "plain"
    turn: tuple[int, int, int, int] = UPRIGHT
    again: tuple[int, int] | None = None
    joined: bool = False
    keys: bool = True

    def __str__(self) -> str:
        parts = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default)
        return f"Draw({', '.join(parts)})"

    @property
    def whole(self) -> bool:
        """Whether no picture lacks its reference or is hidden by an edit list."""
        return not self.start and not self.joined and self.times != "negative"

    @property
    def clean(self) -> bool:
        """Whether no picture is shown that was decoded without its reference."""
        return not self.joined and (self.at_key or not self.start)

    @property
    def fps(self) -> Fraction | None:
        """The pictures a second; None if they vary, or nothing tells."""
        if self.start and (self.joined or self.times == "decoding" or self.container == "avi"):
            return None
        regular = {"plain": 25, "offset": 25, "negative": 25, "decoding": 25, "shared": 25, "milliseconds": 1500}
        return Fraction(regular[self.times]) if self.times in regular else None


def draw(seed: int, number: int) -> Draw:
    """Return the draw of this number."""
    rng = random.Random(f"{seed} {number}")
    codec = rng.choice(CODECS)
    container = rng.choice(CONTAINERS[codec])
    odd = codec in ODD and rng.random() < 0.15
    size = (67, 49) if odd else rng.choice(((64, 48), (96, 72)))
    changes = codec in CHANGES and container not in ("mpg", "m4v") and not odd and rng.random() < 0.1
    return Draw(
        codec=codec, form=rng.choice(tuple(FORMS[codec])), container=container, size=size,
        tags=rng.choice(TAGS[codec]) if codec in TAGS and rng.random() < 0.4 else UNTAGGED,
        start=rng.randrange(1, 14) if rng.random() < 0.35 else 0,
        end=rng.randrange(1, 6) if rng.random() < 0.25 else 0,
        at_key=rng.random() < 0.75 or codec == "libsvtav1", times=rng.choice(TIMES.get(container, ("plain",))),
        turn=rng.choice(TURNS) if container in TURNED and rng.random() < 0.4 else UPRIGHT,
        again=rng.choice([s for s in ((64, 48), (96, 72)) if s != size]) if changes else None,
        joined=container in ("ts", "h264", "hevc", "m2v") and rng.random() < 0.15,
        keys=container != "mkv" or rng.random() > 0.08,
    )  # fmt: skip


class Coded(NamedTuple):
    """A packet: its bytes, its place among the shown, and whether it begins a group."""

    content: bytes
    rank: int
    key: bool


@cache
def master(codec: str, form: str, size: tuple[int, int], tags: tuple[str, str]) -> tuple[bytes, tuple[Coded, ...]]:
    """Return an encoded video of the pictures 0, 1, …: a file of it, and its packets in decoding order."""
    annexb = codec in ("libx264", "libx265", "mpeg1video", "mpeg2video")  # with parameters in each key frame
    os.environ.setdefault("SVT_LOG", "1")  # else the AV1 encoder fills stderr
    file = io.BytesIO()
    with av.open(
        file, "w", format="mpegts" if annexb else {"wmv2": "asf", "flv": "flv"}.get(codec, "matroska")
    ) as target:
        stream: Any = target.add_stream(codec, rate=25, options={**FORMS[codec][form], "threads": "1"})
        stream.width, stream.height = size
        stream.pix_fmt = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}.get(codec, "yuv420p")
        stream.codec_context.colorspace, stream.codec_context.color_range = (
            MATRICES.index(tags[0]),
            RANGES.index(tags[1]),
        )
        for number in range(FRAMES):
            target.mux(stream.encode(_frame(number, size, stream.pix_fmt, tags)))
        target.mux(stream.encode(None))
    content = file.getvalue()
    with av.open(io.BytesIO(content)) as source:
        packets = [packet for packet in source.demux(video=0) if packet.size]
        ranks = np.argsort(np.argsort([packet.pts for packet in packets], kind="stable"), kind="stable")
        coded = (Coded(bytes(p), int(rank), p.is_keyframe) for p, rank in zip(packets, ranks, strict=True))
        return content, tuple(coded)


def _frame(number: int, size: tuple[int, int], pix_fmt: str, tags: tuple[str, str]) -> av.VideoFrame:
    matrix, extent = tags
    full = extent == "pc" or pix_fmt == "yuvj420p"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture(number, size)), format="rgb24").reformat(
        format=pix_fmt, dst_colorspace=SWSCALE[matrix], dst_color_range=2 if full else 1
    )
    frame.colorspace, frame.color_range = MATRICES.index(matrix), RANGES.index(extent)
    frame.pts, frame.time_base = number, Fraction(1, 25)
    return frame


def build(drawn: Draw, path: Path) -> Path:
    """Write a drawn video to a path, whose suffix is replaced; return it."""
    path = path.with_suffix(f".{drawn.container.replace('fmp4', 'mp4')}")
    template, packets = master(drawn.codec, drawn.form, drawn.size, drawn.tags)
    packets = _cut(packets, drawn)
    if drawn.again:
        more = master(drawn.codec, drawn.form, drawn.again, drawn.tags)[1]
        packets += tuple(c._replace(rank=c.rank + FRAMES) for c in more)
    _mux(path, template, packets, drawn)
    if drawn.joined:
        path.write_bytes(path.read_bytes() * 2)
    return path


def _cut(packets: tuple[Coded, ...], drawn: Draw) -> tuple[Coded, ...]:
    start = drawn.start
    if drawn.at_key and start:
        start = next((n for n in range(start, len(packets)) if packets[n].key), 0)
    return packets[start : len(packets) - drawn.end]


def _mux(path: Path, template: bytes, packets: tuple[Coded, ...], drawn: Draw) -> None:
    muxer, options = MUXERS.get(drawn.container, (drawn.container, {}))
    ranks = np.argsort(np.argsort([coded.rank for coded in packets])).tolist()
    with av.open(io.BytesIO(template)) as source, av.open(str(path), "w", format=muxer, options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.time_base = TICK
        if drawn.turn != UPRIGHT:
            a, b, c, d = (value << 16 for value in drawn.turn)
            stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        for coded, (pts, dts) in zip(packets, clock(drawn, ranks), strict=True):
            packet = av.Packet(coded.content)
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, TICK, pts, dts
            packet.duration, packet.is_keyframe = STEP, coded.key and drawn.keys
            target.mux(packet)


def clock(drawn: Draw, ranks: list[int]) -> list[tuple[int, int]]:
    """Return (pts, dts) of packets in decoding order, given their places among the shown ones."""
    delay = max(number - rank for number, rank in enumerate(ranks))
    shown = list(range(0, (len(ranks) + delay) * STEP, STEP))
    rng = random.Random(str(drawn))
    match drawn.times:
        case "offset":
            shown = [time + 12345 * STEP for time in shown]
        case "negative":
            shown = [time - (delay + 3) * STEP for time in shown]
        case "vfr":
            shown = np.cumsum([rng.randrange(1, 5) * STEP // 2 for _ in shown]).tolist()
        case "gap":
            place = rng.randrange(len(shown))
            shown = [time + 5000 * STEP // 25 * (number >= place) for number, time in enumerate(shown)]
        case "milliseconds":
            shown = [number * 4 // 5 for number in range(len(shown))]
    times = [(shown[rank + delay], shown[number]) for number, rank in enumerate(ranks)]
    if drawn.times == "decoding":
        return [(dts, dts) for _, dts in times]
    if drawn.times == "shared" and not delay:
        return [(shown[n - (n % 7 == 6)], shown[n] - STEP) for n in range(len(ranks))]
    return times
