"""NAL units of H.264 and HEVC: in packets, and the parameter sets of a stream's extradata (ISO 14496-15, 5.3 and 8.3).

Units follow start codes, or fields of their lengths where the extradata is a configuration record (avcC, hvcC).
"""

from __future__ import annotations

from functools import lru_cache

START = b"\0\0\1"
LENGTHS = {"h264": 4, "hevc": 21}  # where in a record the size of the length fields stands; sets follow


def length_size(codec: str, extradata: bytes) -> int:
    """Return the size of the units' length fields; 0 if units follow start codes."""
    at = LENGTHS[codec]
    return (extradata[at] & 3) + 1 if extradata[:1] == b"\1" and len(extradata) > at + 1 else 0


@lru_cache(maxsize=64)
def sets(codec: str, extradata: bytes) -> tuple[bytes, ...]:
    """Return the parameter sets of a configuration record, or after start codes. Raises IndexError if it is cut."""
    if not length_size(codec, extradata):
        return tuple(unit for unit in extradata.split(START)[1:] if unit)
    found: list[bytes] = []
    at = LENGTHS[codec] + 2
    arrays = 1 if codec == "h264" else extradata[22]
    for _ in range(arrays):
        if codec == "h264":
            count = extradata[5] & 31
        else:
            count, at = int.from_bytes(extradata[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            found.append(extradata[at + 2 : at + 2 + size])
            at += 2 + size
    return tuple(filter(None, found))
