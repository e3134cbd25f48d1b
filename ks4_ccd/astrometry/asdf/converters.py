# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The models of this package as nodes of an ASDF tree, and back.

Types are named as strings, and modules imported when a node is met: asdf
asks for converters whenever it opens a file.
"""

from contextlib import contextmanager
from importlib import import_module

from asdf_astropy.converters.transform.core import (
    TransformConverterBase,
    parameter_to_value,
)

from ks4_ccd.astrometry.asdf import _checks
from ks4_ccd.astrometry.asdf._wcs_nodes import (
    block,
    wcs_from_node,
    wcs_to_node,
)

__all__ = ["FITSModelConverter", "LookupDistortionConverter"]

_TAGS = "asdf://ks4-ccd.org/tags"


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
            "dx": block(model.dx, ctx),
            "dy": block(model.dy, ctx),
            "step": [float(value) for value in model.step],
            "first": [float(value) for value in model.first],
        }

    def from_yaml_tree_transform(self, node, tag, ctx):  # noqa: D102 (inherited)
        with _naming(tag):
            _checks.keys(node, ("dx", "dy", "step", "first"))
            return self._class(tag)(
                _checks.table("dx", node["dx"]),
                _checks.table("dy", node["dy"]),
                step=_checks.numbers("step", node["step"]),
                first=_checks.numbers("first", node["first"]),
            )


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
        return {"wcs": wcs_to_node(model.wcs, ctx), **parameters}

    def from_yaml_tree_transform(self, node, tag, ctx):  # noqa: D102 (inherited)
        model = self._class(tag)
        with _naming(tag):
            _checks.keys(node, ("wcs", *model.param_names))
            parameters = {
                name: _checks.number(name, node[name]) for name in model.param_names
            }
            return model(wcs_from_node(node["wcs"]), **parameters)


@contextmanager
def _naming(tag):
    """Make errors of a node those of this package, with the name of the node."""
    from ks4_ccd.exceptions import KS4Error, MapFormatError

    node = f"the ASDF node {_name_in(tag)}"
    try:
        yield
    except MapFormatError as error:
        msg = f"{node} {error}"
        raise MapFormatError(msg) from error
    except (KS4Error, ValueError, TypeError, ArithmeticError) as error:
        # wcslib's own errors are ValueErrors of several lines.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        msg = f"{node} is not usable: {reason}"
        raise MapFormatError(msg) from error


def _name_in(tag):
    return tag.rpartition("/")[2].rpartition("-")[0]
