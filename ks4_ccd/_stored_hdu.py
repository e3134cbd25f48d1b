# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""HDUs of a FITS file as they are stored, to be copied byte for byte."""

from astropy.io import fits

from ks4_ccd._datasum import DataSum

__all__ = ["StoredHDU"]

_PIECE = 2**20


class StoredHDU:
    """
    The bytes of an HDU.

    Parameters
    ----------
    hdu : HDU
    file : file object
        The content of the file that the HDU was read from.

    Attributes
    ----------
    header : bytes
    """

    def __init__(self, hdu, file):
        where = hdu.fileinfo()
        file.seek(where["hdrLoc"])
        self.header = file.read(where["datLoc"] - where["hdrLoc"])
        self._file = file
        self._size = where["datSpan"]
        self._sum = DataSum()

    def as_extension(self):
        """Return the header of a primary HDU as that of an image extension."""
        header = fits.Header.fromstring(self.header)
        for keyword in ("SIMPLE", "EXTEND", "CHECKSUM"):
            header.remove(keyword, ignore_missing=True)
        header.insert(0, ("XTENSION", "IMAGE", "Image extension"))
        last = f"NAXIS{header['NAXIS']}"
        header.set("GCOUNT", 1, "number of groups", after=last)
        header.set("PCOUNT", 0, "number of parameters", after=last)
        return header.tostring().encode("ascii")

    def data(self):
        """Yield the bytes of the data; read right after the header."""
        left = self._size
        while left:
            piece = self._file.read(min(_PIECE, left))
            if not piece:
                msg = "the file ends too early"
                raise EOFError(msg)
            self._sum.add(piece)
            left -= len(piece)
            yield piece

    @property
    def datasum(self):
        """The checksum of the data that were read."""
        return self._sum.value

    @property
    def recorded_datasum(self):
        """The checksum that the header records, `None` without one."""
        for start in range(0, len(self.header), 80):
            card = self.header[start : start + 80]
            if card.startswith(b"DATASUM ="):
                return fits.Card.fromstring(card).value
        return None
