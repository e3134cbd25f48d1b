# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The checksum of the data of a FITS HDU (keyword DATASUM)."""

import numpy as np

__all__ = ["DataSum"]

_MODULUS = 2**32 - 1


class DataSum:
    """
    The ones' complement sum of 32-bit integers, of data that come in pieces.

    References
    ----------
    FITS standard 4.0, section 4.4.2.7 and appendix J.
    """

    def __init__(self):
        self._sum = 0
        self._rest = b""

    def add(self, data):
        """
        Add the next bytes.

        Parameters
        ----------
        data : bytes-like or `~numpy.ndarray`
            Contiguous.
        """
        data = np.frombuffer(data, np.uint8)
        if self._rest:
            needed = 4 - len(self._rest)
            self._rest += data[:needed].tobytes()
            if len(self._rest) < 4:
                return
            self._sum += int.from_bytes(self._rest, "big")
            data = data[needed:]
        whole = data.size // 4 * 4
        self._sum += int(data[:whole].view(">u4").sum(dtype=np.uint64))
        self._rest = data[whole:].tobytes()

    @property
    def value(self):
        """The sum of all data so far, as DATASUM gives it."""
        total = self._sum + int.from_bytes(self._rest.ljust(4, b"\0"), "big")
        # Zero has two representations, and only all zeros give the first one.
        return total and (total - 1) % _MODULUS + 1
