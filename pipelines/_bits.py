"""Reads numbers of some bits from the headers of codecs."""

from __future__ import annotations


class Bits:
    """Reads from the first bit on. Raises ValueError beyond the last one."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """Read an unsigned number of `count` bits."""
        self.left -= count
        if self.left < 0:
            raise ValueError("the header is cut short")
        return self.value >> self.left & (1 << count) - 1

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb code (ISO 14496-10, 9.1)."""
        rest = self.value & (1 << self.left) - 1
        zeros = self.left - rest.bit_length()
        self.take(zeros)
        return self.take(zeros + 1) - 1

    def se(self) -> int:
        """Read a signed Exp-Golomb code."""
        code = self.ue()
        return (code + 1) // 2 * (1 if code % 2 else -1)

    def skip(self, codes: int) -> None:
        """Skip Exp-Golomb codes."""
        for _ in range(codes):
            self.ue()
