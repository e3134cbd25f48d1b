# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Log calls in the header of an image, as ccdproc does."""

from collections.abc import Mapping, MutableMapping
from typing import Any, Protocol

from ks4_ccd.exceptions import OptionError

__all__ = ["Keyword", "card_text", "check_log", "log_call"]


class Keyword(Protocol):
    """A keyword with a value, as `~ccdproc.Keyword`."""

    name: str
    value: object


def log_call(
    header: MutableMapping[str, Any],
    keyword: str,
    arguments: Mapping[str, object],
    add_keyword: Any,
) -> None:
    """
    Log a call in a header, in place.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or mapping
    keyword : str
        The keyword to log under by default.
    arguments : dict
        The arguments to log.
    add_keyword : bool, `None`, str, `~ccdproc.Keyword` or mapping
        `True` logs ``arguments``, `False` or `None` nothing; anything else is
        logged instead.
    """
    if not add_keyword:
        return
    if add_keyword is True:
        words = ", ".join(f"{name}={value}" for name, value in arguments.items())
        entries: dict[str, object] = {keyword: card_text(words)}
    elif isinstance(add_keyword, str):
        entries = {add_keyword: None}
    elif isinstance(add_keyword, Mapping):
        entries = dict(add_keyword)
    else:
        entries = {add_keyword.name: add_keyword.value}
    for name, value in entries.items():
        header[name] = value


def check_log(add_keyword: object) -> None:
    """Raise `OptionError` if ``add_keyword`` is not one that `log_call` accepts."""
    known = isinstance(add_keyword, bool | None | str | Mapping)
    if not known and not (
        hasattr(add_keyword, "name") and hasattr(add_keyword, "value")
    ):
        msg = (
            "add_keyword must be True, False, None, a string, a ccdproc Keyword or a "
            f"mapping, got {add_keyword!r}"
        )
        raise OptionError(msg)


def card_text(text: str) -> str:
    """Return text for a FITS card, escaped to printable ASCII."""
    escaped = text.encode("unicode_escape").decode("ascii")
    return text if text.isascii() and text.isprintable() else escaped
