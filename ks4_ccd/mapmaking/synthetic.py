# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read the synthetic photometry of Gaia XP spectra as published.

The Gaia Synthetic Photometry Catalogue (GSPC; Gaia Collaboration, Montegriffo et al.
2023, A&A 674, A33) is ``gaiadr3.synthetic_photometry_gspc`` of the Gaia archive and
I/360/syntphot of VizieR. Its Johnson-Kron-Cousins magnitudes are in the Vega system,
those of SDSS and Pan-STARRS 1 in the AB system.
"""

import re
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from ks4_ccd.catalogs.columns import magnitude_column, plain_column

__all__ = [
    "AB_MINUS_VEGA",
    "GAIA_AB_MINUS_VEGA",
    "Passband",
    "ab_of_survey",
    "magnitudes_and_errors",
    "passbands_in",
]

AB_MINUS_VEGA = {"U": 0.770, "B": -0.120, "V": 0.000, "R": 0.186, "I": 0.444}
"""AB magnitudes of a star of magnitude 0 in the Johnson-Cousins system: zp(f_nu) in
Table A2 of Bessell, Castelli & Plez 1998, A&A 333, 231 (that system, and the
standardised magnitudes of GSPC, have V = 0.03 for Vega)."""

GAIA_AB_MINUS_VEGA = {"G": 0.1136, "BP": 0.0155, "RP": 0.3561}
"""The difference of the zero points of Gaia (E)DR3 in the two systems: Riello et al.
2021, A&A 649, A3, and the documentation of the release."""

# The zero points of the standardised Vega magnitudes, for fluxes in W / (m2 nm): the
# configuration JkcStd of GaiaXPy, with which GSPC was made.
_VEGA_ZEROPOINTS = {
    "U": -25.8489,
    "B": -25.4710,
    "V": -26.0861,
    "R": -26.6268,
    "I": -27.3212,
}
# -2.5 log10(3631 Jy) of fluxes in W / (m2 Hz). GSPC documents the fluxes of SDSS and
# Pan-STARRS 1 as W / (m2 nm), which is a known error of the unit only.
_AB_ZEROPOINT = -56.10

# The survey's files of Gaia XP stars contain AB magnitudes of GSPC fluxes f_lambda:
# -2.5 log10(f_lambda wavelength^2 / c) - 48.60 in cgs units, with these wavelengths
# (nm) and c = 3e17 nm/s. They were recovered from the file of field 0000, in which the
# magnitudes in all bands are then those of single-precision fluxes, as GSPC contains
# them, to the last digit.
_SURVEY_WAVELENGTHS = {"B": 436.8, "V": 545.5, "R": 642.6, "I": 793.9}
_SURVEY_LIGHT_SPEED = 3e17

_ERROR_PER_FRACTION = 2.5 / np.log(10)
# Columns of the Gaia archive, such as r_jkc_mag; those of TAP clients may be
# upper-case.
_ARCHIVE = re.compile(r"(?:([ubvri])_(jkc)|([ugriz])_(sdss)|(y)_(ps1))_mag", re.I)
# Bands of VizieR: upper case is Johnson-Kron-Cousins, lower case SDSS and Pan-STARRS 1.
_VIZIER_BANDS = "UBVRIugrizy"
# Of the table in VOTables and FITS files; that of a file of the survey contains it.
_VIZIER_NAME = re.compile(r"I[/_]360[/_]syntphot")


@dataclass(frozen=True)
class Passband:
    """
    The columns of a passband of GSPC.

    Parameters
    ----------
    band : str
        ``U B V R I`` of Johnson-Kron-Cousins, ``u g r i z`` of SDSS, ``y`` of
        Pan-STARRS.
    magnitude, flux, flux_error, flag : str
        The names of the columns; only the first has to exist.
    """

    band: str
    magnitude: str
    flux: str
    flux_error: str
    flag: str

    @property
    def is_vega(self) -> bool:
        """Whether the magnitudes are in the Vega system."""
        return self.band in AB_MINUS_VEGA

    @property
    def zeropoint(self) -> float:
        """The magnitude, in its own system, of a flux of 1 in the unit of GSPC."""
        return _VEGA_ZEROPOINTS.get(self.band, _AB_ZEROPOINT)


def passbands_in(table: Table) -> dict[str, Passband]:
    """
    Return the passbands of GSPC that a table contains, by the column of the magnitude.

    Parameters
    ----------
    table : `~astropy.table.Table`
        With columns of the Gaia archive (``r_jkc_mag``), or of VizieR: ``Rmag`` in a
        table whose name in the meta is I/360/syntphot, or beside ``RFlag`` or ``FR``,
        which no other catalog has.

    Returns
    -------
    passbands : dict
    """
    found = {}
    for name in table.colnames:
        if match := _ARCHIVE.fullmatch(name):
            letter, system = (part for part in match.groups() if part)
            is_vega = system.lower() == "jkc"
            band = letter.upper() if is_vega else letter.lower()
            stem = name[:-4]
            found[name] = Passband(
                band,
                name,
                *(
                    _with_case(table, stem + part)
                    for part in ("_flux", "_flux_error", "_flag")
                ),
            )
    names = set(table.colnames)
    texts = [value for value in table.meta.values() if isinstance(value, str)]
    is_vizier = any(map(_VIZIER_NAME.fullmatch, texts))
    for band in _VIZIER_BANDS:
        columns = f"{band}mag", f"F{band}", f"e_F{band}", f"{band}Flag"
        if columns[0] in names and (is_vizier or names & set(columns[1:])):
            found[columns[0]] = Passband(band, *columns)
    return found


def _with_case(table: Table, name: str) -> str:
    for column in table.colnames:
        if column.lower() == name.lower():
            return column
    return name


def magnitudes_and_errors(
    table: Table, passband: Passband
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """
    Return magnitudes of GSPC in their own system, their errors and flags.

    Parameters
    ----------
    table : `~astropy.table.Table`
    passband : `Passband`

    Returns
    -------
    magnitudes : 1D `~numpy.ndarray`
    errors : 1D `~numpy.ndarray` or `None`
        The relative errors of the fluxes times 2.5 / ln(10), in mag; the fluxes follow
        from the magnitudes where the table has errors of fluxes only. `None` if it has
        none.
    flags : 1D `~numpy.ndarray` of uint8, or `None`
        1 within the range of brightness and colour in which GSPC was validated. `None`
        if the table has none.
    """
    magnitudes = magnitude_column(table, passband.magnitude)
    errors = flags = None
    if passband.flux_error in table.colnames:
        if passband.flux in table.colnames:
            flux = plain_column(table, passband.flux)
        else:
            flux = 10 ** (-0.4 * (magnitudes - passband.zeropoint))
        flux[~(flux > 0)] = np.nan
        errors = _ERROR_PER_FRACTION * plain_column(table, passband.flux_error) / flux
    if passband.flag in table.colnames:
        flags = (plain_column(table, passband.flag) == 1).astype(np.uint8)
    return magnitudes, errors, flags


def ab_of_survey(magnitudes: np.ndarray, band: str) -> np.ndarray:
    """
    Convert magnitudes of GSPC as the survey did in its files of Gaia XP stars.

    Parameters
    ----------
    magnitudes : `~numpy.ndarray`
        Standardised Vega magnitudes.
    band : {"B", "V", "R", "I"}

    Returns
    -------
    magnitudes : `~numpy.ndarray`
        XP_B, XP_V, XP_R or XP_I, in the AB system.
    """
    per_hertz = _SURVEY_WAVELENGTHS[band] ** 2 / _SURVEY_LIGHT_SPEED
    zeropoint = _AB_ZEROPOINT - 2.5 * np.log10(per_hertz)
    return magnitudes + zeropoint - _VEGA_ZEROPOINTS[band]
