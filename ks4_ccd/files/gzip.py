# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read a gzip file from any position.

The first pass keeps, at even distances, copies of the decompressor: its
checkpoints. A later read starts from the last checkpoint before its
position, so that its cost does not grow with the file::

    inflated    |--------*--------*--------*--------*-----|   * checkpoint
    a read                            |..>|                   . inflated again
                                           read
"""

import zlib
from bisect import bisect_right
from typing import BinaryIO, NamedTuple

from ks4_ccd.exceptions import MapFormatError

__all__ = ["Checkpoints", "GzipReader"]

# Inflated bytes between checkpoints: about 30 ms of work, half of it on
# average. A checkpoint takes about 50 kB of memory.
_SPACING = 8 * 2**20
_MOST_CHECKPOINTS = 1024

_INPUT_PIECE = 16 * 2**10
_OUTPUT_PIECE = 256 * 2**10
_GZIP = 31


class _Checkpoint(NamedTuple):
    inflated: int
    compressed: int
    decompressor: "zlib._Decompress | None"  # None: the next byte begins a gzip member


class Checkpoints:
    """
    The positions from which a gzip file can be read.

    Parameters
    ----------
    spacing : int, optional
        The distance of checkpoints in inflated bytes. It doubles, half of
        the checkpoints being dropped, whenever there are too many.
    """

    def __init__(self, spacing: int = _SPACING) -> None:
        self._spacing = spacing
        self._points = [_Checkpoint(0, 0, None)]

    def __len__(self) -> int:
        return len(self._points)

    def note(
        self, inflated: int, compressed: int, decompressor: "zlib._Decompress | None"
    ) -> None:
        """Keep a copy of ``decompressor`` if the last checkpoint is far away."""
        if inflated - self._points[-1].inflated < self._spacing:
            return
        state = None if decompressor is None else decompressor.copy()
        self._points.append(_Checkpoint(inflated, compressed, state))
        if len(self._points) > _MOST_CHECKPOINTS:
            self._points = self._points[::2]
            self._spacing *= 2

    def before(self, position: int) -> _Checkpoint:
        """Return the last checkpoint at or before an inflated position."""
        points = self._points
        return points[bisect_right(points, position, key=lambda p: p.inflated) - 1]


class GzipReader:
    """
    The inflated content of a gzip file, to read from any position.

    Parameters
    ----------
    file : binary file
        The gzip file, from its beginning; nothing else may move in it.
    name : str
        The name of the file in messages.
    checkpoints : `Checkpoints`, optional
        Those of an earlier pass over the same file, or new ones, which this
        reader fills.

    Attributes
    ----------
    member_starts : list of int
        The positions at which the gzip members read so far begin, in inflated bytes.

    Notes
    -----
    Concatenated gzip members are read as one, with or without zero padding.
    Not safe to share between threads; the checkpoints of a file that was
    read to its end are.
    """

    def __init__(
        self, file: BinaryIO, name: str, checkpoints: Checkpoints | None = None
    ) -> None:
        self.checkpoints = Checkpoints() if checkpoints is None else checkpoints
        self._file = file
        self._name = name
        self._position = 0
        self.member_starts = [0]
        self._restore(self.checkpoints.before(0))

    def tell(self) -> int:
        """Return the position of the next read, in inflated bytes."""
        return self._position

    def seek(self, position: int) -> int:
        """Move to a position in inflated bytes, without reading anything."""
        self._position = position
        return position

    def read(self, size: int) -> bytes:
        """
        Return up to ``size`` bytes, fewer at the end of the content only.

        Raises
        ------
        MapFormatError
            If the file is damaged or ends too early.
        """
        self._approach(self._position)
        pieces = []
        while size > 0 and (self._position < self._end or self._inflate()):
            start = self._position - (self._end - len(self._piece))
            piece = self._piece[start : start + size]
            self._position += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def drain(self) -> None:
        """Check the rest of the file: lengths, checksums and the end."""
        while self._inflate():
            pass

    def _restore(self, checkpoint: _Checkpoint) -> None:
        # `_piece` is the last piece inflated and `_end` where it ends;
        # `_input` was read from the file and not inflated yet.
        self._piece = b""
        self._end = checkpoint.inflated
        self._compressed = checkpoint.compressed
        state = checkpoint.decompressor
        self._decompressor = None if state is None else state.copy()
        self._input = b""
        self._file.seek(checkpoint.compressed)

    def _approach(self, position: int) -> None:
        checkpoint = self.checkpoints.before(position)
        behind = position < self._end - len(self._piece)
        if behind or checkpoint.inflated > self._end:
            self._restore(checkpoint)
        while self._end <= position and self._inflate():
            pass

    def _inflate(self) -> bool:
        # Inflate the next piece; False at the end of the file.
        while True:
            if not self._input:
                self._input = self._file.read(_INPUT_PIECE)
                self._compressed += len(self._input)
            at_end = not self._input
            if self._decompressor is None:
                if at_end:
                    return False
                self._input = self._input.lstrip(b"\0")
                if self._input:
                    self._decompressor = zlib.decompressobj(_GZIP)
                    if self._end > self.member_starts[-1]:
                        self.member_starts.append(self._end)
                continue
            piece = self._decompress(self._decompressor)
            if piece:
                self._piece = piece
                self._end += len(piece)
                offset = self._compressed - len(self._input)
                self.checkpoints.note(self._end, offset, self._decompressor)
                return True
            if at_end and self._decompressor is not None:
                msg = f"{self._name} is truncated: its gzip data end too early"
                raise MapFormatError(msg)

    def _decompress(self, decompressor: "zlib._Decompress") -> bytes:
        try:
            piece = decompressor.decompress(self._input, _OUTPUT_PIECE)
        except zlib.error as error:
            msg = f"{self._name} is damaged or not a gzip file: {error}"
            raise MapFormatError(msg) from error
        self._input = decompressor.unconsumed_tail
        if decompressor.eof:
            self._input = decompressor.unused_data
            self._decompressor = None
        return piece
