# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The rows of a store: a key, an array's file, and its checksums."""

import zlib
from hashlib import sha256
from typing import NamedTuple

from ks4_ccd.exceptions import KS4Error, StoreError
from ks4_ccd.library._sources import MAX_ARRAY_BYTES
from ks4_ccd.maps.key import MapKey

__all__ = ["StoredRow", "pack", "shape_text", "unpack"]

# Raw deflate: the checksum of zlib's own format would be one more to compute,
# and a row has better ones.
_RAW = -15

# Measured on arrays like those of the release: level 2 comes within 4 % of the
# size that gzip's usual 6 gives, in less than half the time. In noise, searching
# for repetitions takes three times as long and finds none; a piece of the array
# shows whether it is noise.
_LEVEL = 2
_PROBE_BYTES = 2**10
_NOISE = 0.9 * _PROBE_BYTES


class StoredRow(NamedTuple):
    """A row of the table ``maps``: one array."""

    field: str
    band: str
    mode: str
    aperture: str
    family: str
    tile: str
    shape: str
    archive: int
    member: str
    sha256: bytes
    crc32: int
    array: int

    def key(self, path):
        """Return the `MapKey`, or raise `StoreError` naming the store ``path``."""
        field, at, detector = self.field.partition("@")
        names = self.family, field, self.band, self.mode
        parts = self.aperture or None, self.tile or None, detector if at else None
        try:
            return MapKey(*names, *parts)
        except KS4Error as error:
            msg = f"{path} is damaged: a row of it has no valid key: {error}"
            raise StoreError(msg) from error


def shape_text(array):
    """Return the shape of an array as a store has it, such as ``"55 x 55"``."""
    return " x ".join(map(str, array.shape))


def pack(data, key, member):
    """
    Return checksums and compressed bytes of an array's file.

    Returns
    -------
    sha256 : bytes
        Of the file, for `verify` and to recognise duplicates.
    crc32 : int
        Of the names in the row and the file, for each reading: it takes a quarter
        of the time.
    npy : bytes
    """
    checksum = zlib.crc32(data, _crc_of_names(key, member))
    return sha256(data).digest(), checksum, _deflate(data)


def _deflate(data):
    middle = len(data) // 2
    probe = zlib.compress(data[middle : middle + _PROBE_BYTES], 1)
    is_noise = len(probe) > _NOISE
    strategy = zlib.Z_HUFFMAN_ONLY if is_noise else zlib.Z_DEFAULT_STRATEGY
    deflater = zlib.compressobj(_LEVEL, wbits=_RAW, strategy=strategy)
    return deflater.compress(data) + deflater.flush()


def unpack(npy, crc32, key, member, path):
    """
    Return the bytes of an array's file.

    Raises
    ------
    StoreError
        If they are not what `pack` was given.
    """
    inflater = zlib.decompressobj(_RAW)
    try:
        data = inflater.decompress(npy, MAX_ARRAY_BYTES)
    except (zlib.error, TypeError) as error:
        data, reason = None, str(error)
    else:
        reason = "its checksum is wrong"
    if data is None or zlib.crc32(data, _crc_of_names(key, member)) != crc32:
        msg = (
            f"{path} is damaged: {key.filename} is not what was written ({reason}). "
            "`ks4-ccd verify` lists all damage. Use an intact copy, or ingest the "
            "archives into a new store"
        )
        raise StoreError(msg)
    return data


def _crc_of_names(key, member):
    return zlib.crc32(f"{key.filename} {member}".encode())
