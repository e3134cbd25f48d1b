# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Configure the build of the documentation by Sphinx."""

import builtins
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
# Links to other packages need the network, and are omitted unless this variable is
# set, as on the build server.
is_online = bool(os.environ.get("KS4_CCD_ONLINE_DOCS"))
if is_online:
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "astropy": ("https://docs.astropy.org/en/stable/", None),
        "ccdproc": ("https://ccdproc.readthedocs.io/en/stable/", None),
        "gwcs": ("https://gwcs.readthedocs.io/en/stable/", None),
        "distributed": ("https://distributed.dask.org/en/stable/", None),
    }

# Every reference has to be resolved.
nitpicky = True
nitpick_ignore_regex = []
if not is_online:
    # Names of other packages, whose inventories are on the network.
    nitpick_ignore_regex += [
        ("py:.*", rf"{package}(\..*)?")
        for package in (
            *("astropy", "ccdproc", "distributed", "gwcs", "matplotlib"),
            *("multiprocessing", "numpy", "pathlib", "scipy"),
        )
    ]
    # Constants, types and exceptions of Python.
    nitpick_ignore_regex.append(("py:.*", "|".join(dir(builtins))))

default_role = "obj"
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"ks4_ccd {release}"
html_show_sourcelink = False
# pages at the top level have no sections to navigate to
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
