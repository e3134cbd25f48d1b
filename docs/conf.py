# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How Sphinx builds the documentation."""

import os

import ks4_ccd

project = "ks4_ccd"
author = "KS4 CCD developers"
copyright = "2026, KS4 CCD developers"
version = release = ks4_ccd.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
]
# The links to other packages need the network, and a build must not: a build
# server sets this variable.
if os.environ.get("KS4_CCD_ONLINE_DOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "astropy": ("https://docs.astropy.org/en/stable/", None),
        "ccdproc": ("https://ccdproc.readthedocs.io/en/stable/", None),
        "gwcs": ("https://gwcs.readthedocs.io/en/stable/", None),
    }

default_role = "obj"
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"ks4_ccd {release}"
html_show_sourcelink = False
# pages of the top level have nothing to navigate to beside them
html_sidebars = {
    page: []
    for page in (
        "changes",
        "command_line",
        "contributing",
        "conventions",
        "getting_started",
        "traps",
        "uncertainties",
    )
}

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False

plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False
