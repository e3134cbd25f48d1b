# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Convert the models of this package to nodes of an ASDF tree, and back."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from asdf.extension import SerializationContext
from asdf_astropy.converters.transform.core import (
    TransformConverterBase,
    parameter_to_value,
)
from astropy.modeling import Model

from ks4_ccd.astrometry._fits_models import FITSPixelToSky, FITSSkyToPixel
from ks4_ccd.astrometry.asdf import _checks
from ks4_ccd.astrometry.asdf._wcs_nodes import (
    block,
    wcs_from_node,
    wcs_to_node,
)
from ks4_ccd.astrometry.distortion import InverseLookupDistortion, LookupDistortion
from ks4_ccd.exceptions import KS4Error, MapFormatError, reason_of

__all__ = ["FITSModelConverter", "LookupDistortionConverter"]

_TAGS = "asdf://ks4-ccd.org/tags"


class _ModelConverter(TransformConverterBase):
    """A converter of several models."""

    # From the last part of a tag, without its version, to the class.
    _classes: Mapping[str, type[Model]]

    @property
    def tags(self) -> list[str]:
        return [f"{_TAGS}/{name}-*" for name in self._classes]

    @property
    def types(self) -> list[type[Model]]:
        return [*self._classes.values()]

    def select_tag(
        self, obj: Model, tags: Sequence[str], ctx: SerializationContext
    ) -> str:
        return next(tag for tag in tags if self._class(tag) is type(obj))

    def _class(self, tag: str) -> Any:
        return self._classes[_name_in(tag)]


class LookupDistortionConverter(_ModelConverter):
    """Convert `~ks4_ccd.LookupDistortion` and its inverse."""

    _classes = {  # noqa: RUF012
        "lookup_distortion": LookupDistortion,
        "inverse_lookup_distortion": InverseLookupDistortion,
    }

    def to_yaml_tree_transform(  # noqa: D102 (inherited)
        self, model: Any, tag: str, ctx: SerializationContext
    ) -> dict[str, Any]:
        return {
            "dx": block(model.dx, ctx),
            "dy": block(model.dy, ctx),
            "step": [float(value) for value in model.step],
            "first": [float(value) for value in model.first],
        }

    def from_yaml_tree_transform(  # noqa: D102 (inherited)
        self, node: Mapping[str, Any], tag: str, ctx: SerializationContext
    ) -> Model:
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

    _classes = {  # noqa: RUF012
        "fits_pixel_to_sky": FITSPixelToSky,
        "fits_sky_to_pixel": FITSSkyToPixel,
    }

    def to_yaml_tree_transform(  # noqa: D102 (inherited)
        self, model: Any, tag: str, ctx: SerializationContext
    ) -> dict[str, Any]:
        parameters = {
            name: parameter_to_value(getattr(model, name)) for name in model.param_names
        }
        return {"wcs": wcs_to_node(model.wcs, ctx), **parameters}

    def from_yaml_tree_transform(  # noqa: D102 (inherited)
        self, node: Mapping[str, Any], tag: str, ctx: SerializationContext
    ) -> Model:
        model = self._class(tag)
        with _naming(tag):
            _checks.keys(node, ("wcs", *model.param_names))
            parameters = {
                name: _checks.number(name, node[name]) for name in model.param_names
            }
            return model(wcs_from_node(node["wcs"]), **parameters)


@contextmanager
def _naming(tag: str) -> Iterator[None]:
    """Turn errors into `MapFormatError`, with the name of the node."""
    node = f"the ASDF node {_name_in(tag)}"
    try:
        yield
    except MapFormatError as error:
        msg = f"{node} {error}"
        raise MapFormatError(msg) from error
    except (KS4Error, ValueError, TypeError, ArithmeticError) as error:
        msg = f"{node} is not usable: {reason_of(error)}"
        raise MapFormatError(msg) from error


def _name_in(tag: str) -> str:
    return tag.rpartition("/")[2].rpartition("-")[0]
