# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The models of this package as nodes of an ASDF tree, and back.

Types are named as strings, and modules imported when a node is met: asdf
asks for converters whenever it opens a file.
"""

from importlib import import_module

from asdf.tagged import TaggedDict
from asdf_astropy.converters.transform.core import (
    TransformConverterBase,
    parameter_to_value,
)

__all__ = ["FITSModelConverter", "LookupDistortionConverter"]

_TAGS = "asdf://ks4-ccd.org/tags"

# The numbers that wcslib's cards hold to 14 digits only.
_EXACT = ("crpix", "crval", "cdelt", "pc")
_TABLES = ("cpdis1", "cpdis2", "det2im1", "det2im2")


class _ModelConverter(TransformConverterBase):
    """A converter of models of one module, by the names of their classes."""

    # From the last word of a tag, without its version, to the class.
    _classes: dict
    _module: str

    @property
    def tags(self):
        return [f"{_TAGS}/{name}-*" for name in self._classes]

    @property
    def types(self):
        return [f"{self._module}.{name}" for name in self._classes.values()]

    def select_tag(self, obj, tags, ctx):
        names = {class_name: name for name, class_name in self._classes.items()}
        name = names[type(obj).__name__]
        return next(tag for tag in tags if _name_in(tag) == name)

    def _class(self, tag):
        return getattr(import_module(self._module), self._classes[_name_in(tag)])


class LookupDistortionConverter(_ModelConverter):
    """Convert `~ks4_ccd.LookupDistortion` and its inverse."""

    _module = "ks4_ccd.astrometry.distortion"
    _classes = {  # noqa: RUF012
        "lookup_distortion": "LookupDistortion",
        "inverse_lookup_distortion": "InverseLookupDistortion",
    }

    def to_yaml_tree_transform(self, model, tag, ctx):  # noqa: D102 (inherited)
        return {
            "dx": _block(model.dx, ctx),
            "dy": _block(model.dy, ctx),
            "step": [float(value) for value in model.step],
            "first": [float(value) for value in model.first],
        }

    def from_yaml_tree_transform(self, node, tag, ctx):  # noqa: D102 (inherited)
        from ks4_ccd.exceptions import KS4Error, MapFormatError

        what = f"the ASDF node {_name_in(tag)}"
        missing = {"dx", "dy", "step"} - set(node)
        if missing:
            # The schema says so first, unless validation is switched off.
            msg = f"{what} has no {' and no '.join(sorted(missing))}"
            raise MapFormatError(msg)
        try:
            return self._class(tag)(
                _array(node["dx"]),
                _array(node["dy"]),
                step=tuple(node["step"]),
                first=tuple(node.get("first", (0.0, 0.0))),
            )
        except KS4Error as error:
            msg = f"{what} is not usable: {error}"
            raise MapFormatError(msg) from error


class FITSModelConverter(_ModelConverter):
    """Convert the models that evaluate a FITS WCS."""

    _module = "ks4_ccd.astrometry._fits_models"
    _classes = {  # noqa: RUF012
        "fits_pixel_to_sky": "FITSPixelToSky",
        "fits_sky_to_pixel": "FITSSkyToPixel",
    }

    def to_yaml_tree_transform(self, model, tag, ctx):  # noqa: D102 (inherited)
        parameters = {
            name: parameter_to_value(getattr(model, name)) for name in model.param_names
        }
        return {"wcs": _wcs_to_node(model.wcs, ctx), **parameters}

    def from_yaml_tree_transform(self, node, tag, ctx):  # noqa: D102 (inherited)
        from ks4_ccd.exceptions import MapFormatError

        model = self._class(tag)
        names = [name for name in model.param_names if name in node]
        try:
            wcs = _wcs_from_node(node["wcs"])
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            msg = f"the ASDF node {_name_in(tag)} has no usable FITS WCS: {reason}"
            raise MapFormatError(msg) from error
        return model(wcs, **{name: node[name] for name in names})


def _name_in(tag):
    return tag.rpartition("/")[2].rpartition("-")[0]


def _block(array, ctx):
    """
    Return an array as a node of the ASDF standard, its numbers in a block.

    asdf's own converter of arrays writes small ones, or all of them, into
    the YAML when it is told to; decimal numbers are not what a table is.
    """
    import numpy as np

    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    index = ctx.find_available_block_index(lambda: array, ctx.generate_block_key())
    node = {
        "source": index,
        "datatype": array.dtype.name,
        "byteorder": "little",
        "shape": list(array.shape),
    }
    version = "1.0.0" if ctx.version < "1.6.0" else "1.1.0"
    return TaggedDict(node, f"tag:stsci.edu:asdf/core/ndarray-{version}")


def _array(node):
    """Return a copy of an array: the file may be closed then."""
    import numpy as np

    return np.array(node)


def _wcs_to_node(wcs, ctx):
    """Return a FITS WCS, to the last bit, as cards, numbers and tables."""
    cards = wcs.wcs.to_header(relax=True)
    node = {
        "cards": [cards[i : i + 80].rstrip() for i in range(0, len(cards), 80)],
        "crpix": wcs.wcs.crpix.tolist(),
        "crval": wcs.wcs.crval.tolist(),
        "cdelt": wcs.wcs.get_cdelt().tolist(),
        "pc": wcs.wcs.get_pc().tolist(),
        "pole": [float(wcs.wcs.lonpole), float(wcs.wcs.latpole)],
        "pv": [[int(i), int(m), float(value)] for i, m, value in wcs.wcs.get_pv()],
    }
    if wcs.pixel_shape is not None:
        node["pixel_shape"] = [int(n) for n in wcs.pixel_shape]
    if wcs.sip is not None:
        polynomials = {name: getattr(wcs.sip, name) for name in ("a", "b", "ap", "bp")}
        node["sip"] = {
            name: _block(p, ctx) for name, p in polynomials.items() if p is not None
        }
        node["sip"]["crpix"] = wcs.sip.crpix.tolist()
    for name in _TABLES:
        table = getattr(wcs, name)
        if table is not None:
            node[name] = {
                "data": _block(table.data, ctx),
                "crpix": [float(value) for value in table.crpix],
                "crval": [float(value) for value in table.crval],
                "cdelt": [float(value) for value in table.cdelt],
            }
    return node


def _wcs_from_node(node):
    import numpy as np
    from astropy.wcs import WCS, DistortionLookupTable, Sip, Wcsprm

    cards = "".join(card.ljust(80) for card in node["cards"]).encode("ascii")
    wcs = WCS(naxis=2)
    wcs.wcs = Wcsprm(cards, relax=True)
    for name in _EXACT:
        setattr(wcs.wcs, name, np.array(node[name], float))
    wcs.wcs.lonpole, wcs.wcs.latpole = node["pole"]
    if node["pv"]:
        wcs.wcs.set_pv([tuple(entry) for entry in node["pv"]])
    if "sip" in node:
        polynomials = (
            _array(node["sip"][name]) if name in node["sip"] else None
            for name in ("a", "b", "ap", "bp")
        )
        wcs.sip = Sip(*polynomials, node["sip"]["crpix"])
    for name in _TABLES:
        if name in node:
            data = _array(node[name]["data"]).astype(np.float32)
            places = (tuple(node[name][p]) for p in ("crpix", "crval", "cdelt"))
            setattr(wcs, name, DistortionLookupTable(data, *places))
    if "pixel_shape" in node:
        wcs.pixel_shape = tuple(node["pixel_shape"])
    wcs.wcs.set()
    return wcs
