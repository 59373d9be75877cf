"""Sphinx settings; `make docs` builds into docs/_build/html."""

import os

import gdkit

# tqdm asks for ipywidgets in a kernel; Jupyter brings them, and the pages need none.
os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")

project = "gdkit"
author = "The gdkit contributors"
project_copyright = "The gdkit contributors"
version = release = gdkit.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"gdkit {release}"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "cache"  # a tutorial runs again when it changes
nb_execution_timeout = 240
nb_execution_raise_on_error = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the Args and Shape sections say it with named axes
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape"]
