# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Calibrate many images at once."""

from ks4_ccd.survey.batch import calibrate_many

__all__ = ["calibrate_many"]
