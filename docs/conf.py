"""Sphinx settings; `make docs` builds into docs/_build/html."""

import os
import sys
from pathlib import Path

import gdkit

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))
# tqdm asks for ipywidgets in a kernel; Jupyter brings them, and the pages need none.
os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")

project = "gdkit"
author = "The gdkit contributors"
project_copyright = "The gdkit contributors"
version = release = gdkit.__version__

extensions = ["myst_nb", "native_math", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "_extensions"]
html_theme = "furo"
html_title = f"gdkit {release}"
html_short_title = "gdkit"
html_math_renderer = "native"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_logo = html_favicon = "_static/logo.svg"
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_meta = {"description": "Graph distillation for PyTorch: views of the same thing teach each other."}
# The palette of Okabe and Ito, in a blue that reads on each ground.
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#005a8d", "color-brand-content": "#005a8d"},
    "dark_css_variables": {"color-brand-primary": "#6cb6e8", "color-brand-content": "#6cb6e8"},
}

myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 4

nb_execution_mode = "cache"  # a tutorial runs again when it changes
nb_execution_timeout = 240
nb_execution_raise_on_error = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the Args and Shape sections say it with named axes
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape"]
