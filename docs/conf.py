"""How the documentation is made: ``docs/build``."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from matplotlib import pyplot

from convgmm import plotting

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "convgmm"
author = copyright = "The convgmm developers"
release = version_of("convgmm")
version = ".".join(release.split(".")[:2])

extensions = [
    "benchmarks_page",
    "mathml",
    "myst_parser",
    "numpydoc",
    "plain_docstrings",
    "public_names",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery"]
templates_path = ["templates"]
smartquotes = False  # "dct" in a docstring is Python
# In docstrings `name` is a link where there is such a name.
default_role = "py:obj"

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False

# ---- reference -------------------------------------------------------------------------------------------------------

autodoc_typehints = "none"  # docstrings say more
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the class template lists them
numpydoc_xref_param_type = False

# ---- gallery ---------------------------------------------------------------------------------------------------------

# The gallery shows what pyplot holds: there the figures that functions return are to be found, too.
plotting._figure = lambda width, height: pyplot.figure(figsize=(width, height), layout="constrained")

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "doc_module": ("convgmm",),
    "backreferences_dir": "auto_gallery/backreferences",
    "matplotlib_animations": False,
    "min_reported_time": 1,
    "remove_config_comments": True,
    "show_signature": False,
    "copyfile_regex": "",
}

# ---- pages -----------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"convgmm {release.partition('+')[0]}"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["convgmm.css"]
html_theme_options = {
    "logo": {"text": "convgmm"},
    "show_nav_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 7,
}
html_sidebars = {page: [] for page in ("benchmarks", "changelog", "experiments", "extending")}  # single pages
html_show_sourcelink = False
