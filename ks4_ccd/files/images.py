# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read the image in a FITS file and the planes that belong to it."""

import glob
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from ks4_ccd.exceptions import GeometryError, KS4Error, KS4Warning, SeveralImagesError
from ks4_ccd.files._content import Content
from ks4_ccd.files._datasum import DataSum
from ks4_ccd.files._selection import (
    HDU,
    PLANES,
    as_hdu,
    choose_image,
    first_image,
    is_carried_over,
    label_of,
    left_out,
    names_a_plane,
    owned_plane,
    owned_psf,
)
from ks4_ccd.files.pixels import SCALING_CARDS, PlaneRows
from ks4_ccd.files.uncertainties import uncertainty_kind

__all__ = ["SourceImage", "as_hdu", "image_header", "mask_beside", "refuse_mask"]


# Cards that describe how the pixels were stored, not the image.
_STORAGE = (
    *(*SCALING_CARDS, "XTENSION", "PCOUNT", "GCOUNT", "EXTEND", "INHERIT"),
    *("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM", "EXTNAME", "EXTVER"),
)

_WARNINGS = threading.RLock()
_PIECE = 2**20


class SourceImage:
    """
    The image in a FITS file, with its uncertainty and its mask.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file, compressed or not. It is checked for completeness; rows are
        read by `read`.
    hdu : int, str, tuple of (str, int) or `None`, optional
        The number of the image's HDU, its EXTNAME, or EXTNAME and EXTVER. `None` is
        the only image, or the first one if the others have other shapes.
    mask : "find", `None` or path-like, optional
        ``"find"`` takes the extension MASK or else the mask file beside the image.
    planes : tuple of str, optional
        The names of extensions that are planes of the image.

    Raises
    ------
    KS4Error
        If the file cannot be read, is damaged or truncated, or contains several
        images of one shape and ``hdu`` is `None`.
    GeometryError
        If the image is not 2D, or an extension or the mask has another shape.

    Warns
    -----
    KS4Warning
        If planes of an image, by their names, are left out with ``hdu``.
    """

    def __init__(
        self,
        path: Path,
        hdu: HDU = None,
        *,
        mask: str | os.PathLike[str] | None = "find",
        planes: tuple[str, ...] = PLANES,
    ) -> None:
        self.path = path
        self._rows: dict[int, tuple[Any, PlaneRows]] = {}
        self._wrong_sums: list[str] = []
        with self._reading():
            self._content = Content(path)
        with ExitStack() as opened:
            with self._reading(), _caught_warnings():
                file = opened.enter_context(self._content.open())
                # Mapped pages of the file would count as memory of the process.
                self._hdus = opened.enter_context(fits.open(file, memmap=False))
                self._refuse_incomplete()
                self.image = choose_image(self._hdus, hdu, path, planes)
                self.shape = tuple(self.image.shape)
                own_mask = None
                self.uncertainty: Any = None
                self.psf: Any = None
                if planes:
                    own_mask = owned_plane(self._hdus, self.image, "MASK", path)
                    self.uncertainty = owned_plane(
                        self._hdus, self.image, "UNCERT", path
                    )
                    self.psf = owned_psf(self._hdus, self.image)
            if hdu is not None:
                self._warn_of_planes()
            self._mask = self._find_mask(mask, own_mask, hdu, opened)
            self._opened = opened.pop_all()

    def _refuse_incomplete(self) -> None:
        """Raise if the HDUs do not extend from the beginning of the file to its end."""
        # len() reads all headers.
        for number in range(len(self._hdus)):
            if isinstance(self._hdus[number], fits.CompImageHDU):
                continue  # its header is that of the image before compression
            keyword = self._hdus[number].header.cards[0].keyword
            expected = "XTENSION" if number else "SIMPLE"
            if keyword != expected:
                msg = (
                    f"{self.path} is damaged: expected the header of HDU {number} to "
                    f"begin with {expected}, found {keyword!r}; get a complete copy"
                )
                raise KS4Error(msg)
        where = self._hdus[-1].fileinfo()
        end = where["datLoc"] + where["datSpan"]
        size = self._content.size
        if end > size:
            msg = (
                f"{self.path} is truncated: expected {end} bytes "
                f"in {len(self._hdus)} HDUs, found {size}; get a complete copy"
            )
            raise KS4Error(msg)
        with self._content.open(end) as file:
            if any(
                piece.strip(b"\0") for piece in iter(lambda: file.read(_PIECE), b"")
            ):
                msg = (
                    f"{self.path} is truncated or damaged: the {size - end} bytes "
                    f"after HDU {len(self._hdus) - 1} are not a complete extension; "
                    f"get a complete copy, or drop them (truncate -s {end})"
                )
                raise KS4Error(msg)

    def _warn_of_planes(self) -> None:
        planes = [
            label_of(self._hdus, other)
            for other in left_out(self._hdus, self.image)
            if names_a_plane(other)
        ]
        if planes:
            msg = (
                f"{self.path}: HDU {', '.join(planes)} left out: planes of an image "
                "are used if their EXTNAME is UNCERT (with UTYPE) or MASK"
            )
            warnings.warn(msg, KS4Warning, stacklevel=4)

    def _find_mask(
        self,
        mask: str | os.PathLike[str] | None,
        own: Any,
        hdu: HDU,
        opened: ExitStack,
    ) -> "tuple[SourceImage, Any] | None":
        """Return the source of the mask and the mask's HDU, or `None`."""
        if mask is None:
            return None
        of_one_image = True
        if isinstance(mask, str) and mask == "find":
            if own is not None:
                return self, own
            mask = mask_beside(self.path)
            if mask is None:
                return None
            others = left_out(self._hdus, self.image)
            of_one_image = all(names_a_plane(other) for other in others)
        other = opened.enter_context(_open_mask(Path(mask), hdu, of_one_image))
        if other.shape != self.shape:
            msg = (
                f"the mask {mask} has the shape {other.shape}, {self.path} has "
                f"{self.shape}"
            )
            raise GeometryError(msg)
        return other, other.image

    def _reading(self) -> AbstractContextManager[None]:
        return _reading(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def header(self) -> fits.Header:
        """A copy of the image's header, with the cards that only the primary has."""
        return _merged_header(self.image, self._hdus[0])

    @property
    def wcs(self) -> WCS | None:
        """The `~astropy.wcs.WCS` of the image, `None` without a readable one."""
        with _caught_warnings():
            try:
                return WCS(self.header, fobj=self._hdus)
            except Exception:
                return None

    @property
    def hdus(self) -> fits.HDUList:
        """The open `~astropy.io.fits.HDUList`."""
        return self._hdus

    @property
    def uncertainty_kind(self) -> str:
        """The kind of the uncertainty extension: "std", "var" or "ivar"."""
        return uncertainty_kind(self.uncertainty.header, self.path)

    @property
    def has_datasum(self) -> bool:
        """Whether the image has a checksum (DATASUM)."""
        return "DATASUM" in self.image.header

    @property
    def has_mask(self) -> bool:
        """Whether the image has a mask."""
        return self._mask is not None

    def read_mask(self, start: int, stop: int) -> np.ndarray:
        """Return rows of the mask, an array of bool in which True is masked."""
        if self._mask is None:
            msg = f"{self.path}: expected an image with a mask, found none"
            raise ValueError(msg)
        source, hdu = self._mask
        return source.read(hdu, start, stop) != 0

    def read(self, hdu: Any, start: int, stop: int) -> np.ndarray:
        """
        Return rows of one of the planes, in the byte order of the file.

        Integers equal to BLANK are NaN.
        """
        with self._reading():
            return self._rows_of(hdu).read(start, stop)

    def dtype(self, hdu: Any) -> np.dtype:
        """Return the dtype of the rows that `read` returns."""
        with self._reading():
            return self._rows_of(hdu).dtype

    def _rows_of(self, hdu: Any) -> PlaneRows:
        if id(hdu) not in self._rows:
            self._rows[id(hdu)] = hdu, PlaneRows(hdu, self._content)
        return self._rows[id(hdu)][1]

    def carried_over(self, tables: bool = True) -> Iterator[Iterable[bytes]]:
        """
        Yield the bytes of each HDU to copy to the calibrated file.

        Parameters
        ----------
        tables : bool, optional
            Whether the lookup tables of the WCS are copied.
        """
        with self._content.open() as file:
            for hdu in self._hdus:
                if is_carried_over(self._hdus, hdu, self.image, tables):
                    yield self._stored(hdu, file)

    def _stored(self, hdu: Any, file: BinaryIO) -> Iterator[bytes]:
        """Yield the bytes of an HDU, and compare their checksum with DATASUM."""
        with self._reading():
            stored = _StoredHDU(hdu, file)
            yield stored.header if hdu is not self._hdus[0] else stored.as_extension()
            yield from stored.data()
            self._compare_sums(hdu, stored.recorded_datasum, stored.datasum)

    def finish(self) -> None:
        """
        Verify the checksums of what was read; call it after the last read.

        Raises
        ------
        KS4Error
            If a file changed since it was opened.

        Warns
        -----
        KS4Warning
            If data do not match the checksum in their header (DATASUM).
        """
        with self._reading():
            for hdu, rows in self._rows.values():
                self._verify_rows(hdu, rows)
            self._content.check_unchanged()
        if self._wrong_sums:
            msg = (
                f"{self.path}: the data of HDU {', '.join(self._wrong_sums)} do not "
                "match their checksum (DATASUM): they were damaged, or changed "
                "without updating it"
            )
            warnings.warn(msg, KS4Warning, stacklevel=3)
        if self._mask is not None and self._mask[0] is not self:
            self._mask[0].finish()

    def _verify_rows(self, hdu: Any, rows: PlaneRows) -> None:
        if not isinstance(hdu, fits.CompImageHDU):
            self._compare_sums(hdu, hdu.header.get("DATASUM"), rows.datasum())
            return
        # DATASUM is the checksum of the table in which the image is stored.
        with self._content.open() as file:
            for _ in self._stored(hdu, file):
                pass

    def _compare_sums(self, hdu: Any, recorded: object, total: int | None) -> None:
        # An empty string means an unknown checksum.
        known = recorded not in (None, "") and total is not None
        if known and str(recorded).strip() != str(total):
            self._wrong_sums.append(label_of(self._hdus, hdu))

    def close(self) -> None:
        """Close the files."""
        for _, rows in self._rows.values():
            rows.close()
        self._opened.close()


def image_header(path: Path, hdu: HDU = None) -> fits.Header:
    """
    Return the header of the image in a file, without reading the whole file.

    Parameters
    ----------
    path : `~pathlib.Path`
    hdu : int, str, tuple of (str, int) or `None`, optional
        The HDU of the image, as in `SourceImage`.

    Raises
    ------
    KS4Error
        If it cannot be read.
    """
    with _reading(path), _caught_warnings():
        content = Content(path, verify=False)
        with content.open() as file, fits.open(file, memmap=False) as hdus:
            image = first_image(hdus) if hdu is None else None
            if image is None:
                image = choose_image(hdus, hdu, path)
            return _merged_header(image, hdus[0])


def _open_mask(path: Path, hdu: HDU, of_one_image: bool) -> SourceImage:
    """Open a mask file; ``of_one_image``: the file beside it has only one image."""
    try:
        mask = SourceImage(path, mask=None, planes=())
    except SeveralImagesError:
        if hdu is None:
            raise
        return SourceImage(path, hdu, mask=None, planes=())
    if not of_one_image:
        mask.close()
        msg = (
            f"{path}: expected a mask for each image of the file beside it, in HDUs of "
            "the same numbers or names, found only one mask"
        )
        raise KS4Error(msg)
    return mask


def _merged_header(image: Any, primary: Any) -> fits.Header:
    header = image.header.copy()
    header.extend(primary.header.copy(), unique=True)
    for keyword in _STORAGE:
        header.remove(keyword, ignore_missing=True, remove_all=True)
    return header


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn all errors of astropy into `KS4Error`."""
    try:
        yield
    except KS4Error:
        raise
    except Exception as error:
        # astropy and its decompressors raise many kinds of errors.
        reason = str(error) or type(error).__name__
        msg = f"cannot read {path} as a FITS image: {reason}"
        raise KS4Error(msg) from error


@contextmanager
def _caught_warnings() -> Iterator[None]:
    """
    Ignore warnings.

    The filters of Python are shared by all threads: one thread at a time.
    """
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _StoredHDU:
    """
    The bytes of an HDU.

    Parameters
    ----------
    hdu : HDU
    file : binary file object
        The content of the file that the HDU was read from.

    Attributes
    ----------
    header : bytes
    """

    def __init__(self, hdu: Any, file: BinaryIO) -> None:
        where = hdu.fileinfo()
        file.seek(where["hdrLoc"])
        self.header: bytes = file.read(where["datLoc"] - where["hdrLoc"])
        self._file = file
        self._size = where["datSpan"]
        self._sum = DataSum()

    def as_extension(self) -> bytes:
        """Return the header of a primary HDU as that of an image extension."""
        header = fits.Header.fromstring(self.header)
        for keyword in ("SIMPLE", "EXTEND", "CHECKSUM"):
            header.remove(keyword, ignore_missing=True)
        header.insert(0, ("XTENSION", "IMAGE", "Image extension"))
        last = f"NAXIS{header['NAXIS']}"
        header.set("GCOUNT", 1, "number of groups", after=last)
        header.set("PCOUNT", 0, "number of parameters", after=last)
        return header.tostring().encode("ascii")

    def data(self) -> Iterator[bytes]:
        """Yield the bytes of the data, before the file is read elsewhere."""
        left = self._size
        while left:
            piece = self._file.read(min(_PIECE, left))
            if not piece:
                msg = "the file ends before the data do"
                raise EOFError(msg)
            self._sum.add(piece)
            left -= len(piece)
            yield piece

    @property
    def datasum(self) -> int:
        """The checksum of the data that were read."""
        return self._sum.value

    @property
    def recorded_datasum(self) -> object:
        """The checksum that the header records, `None` without one."""
        for start in range(0, len(self.header), 80):
            card = self.header[start : start + 80]
            if card.startswith(b"DATASUM ="):
                return fits.Card.fromstring(card).value
        return None


_COMPRESSED = (".gz", ".fz", ".bz2", ".xz")
_FITS = (".fits", ".fit", ".fts")


def mask_beside(path: Path) -> Path | None:
    """Return the mask file beside an image, `None` without one."""
    stem = path.name
    for suffixes in (_COMPRESSED, _FITS):
        for suffix in suffixes:
            if stem.lower().endswith(suffix):
                stem = stem[: -len(suffix)]
    for suffix in ("", *_COMPRESSED):
        companion = path.with_name(f"{stem}.mask.fits{suffix}")
        if companion != path and companion.exists():
            return companion
    return None


def refuse_mask(path: Path) -> None:
    """Raise `KS4Error` if a file is the mask file beside an image."""
    stem, is_mask, _ = path.name.rpartition(".mask.fits")
    if not is_mask:
        return
    for image in sorted(path.parent.glob(f"{glob.escape(stem)}.*")):
        if ".mask." not in image.name[len(stem) :] and mask_beside(image) == path:
            msg = (
                f"{path} is the mask of {image}, which is calibrated with it: give the "
                "image alone, or rename the file if it is an image itself"
            )
            raise KS4Error(msg)
