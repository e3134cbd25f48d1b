# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Compute the checksum of the data of a FITS HDU (keyword DATASUM)."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataSum"]

_MODULUS = 2**32 - 1


class DataSum:
    """
    The ones' complement sum of 32-bit integers, accumulated piece by piece.

    References
    ----------
    FITS standard 4.0, section 4.4.2.7 and appendix J.
    """

    def __init__(self) -> None:
        self._sum = 0
        self._rest = b""

    def add(self, data: bytes | bytearray | memoryview | NDArray) -> None:
        """
        Add the next bytes.

        Parameters
        ----------
        data : bytes-like or `~numpy.ndarray`
            Contiguous.
        """
        octets = np.frombuffer(data, np.uint8)
        if self._rest:
            needed = 4 - len(self._rest)
            self._rest += octets[:needed].tobytes()
            if len(self._rest) < 4:
                return
            self._sum += int.from_bytes(self._rest, "big")
            octets = octets[needed:]
        whole = octets.size // 4 * 4
        self._sum += int(octets[:whole].view(">u4").sum(dtype=np.uint64))
        self._rest = octets[whole:].tobytes()

    @property
    def value(self) -> int:
        """The sum of all data added so far, the value of DATASUM."""
        total = self._sum + int.from_bytes(self._rest.ljust(4, b"\0"), "big")
        # Zero has two representations; only data of zeros have the first one.
        return total and (total - 1) % _MODULUS + 1
