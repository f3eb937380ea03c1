"""Sphinx's configuration; what it lacks is in ``extensions/``.

``course/site.py`` builds it, from a folder that also holds the executed notebooks.
"""

import json
import re
import runpy
import sys
import tomllib
from pathlib import Path

from srlib.files import ROOT

project = html_title = "Single-image super-resolution"
author = copyright = ""
sys.path.insert(0, str(Path(__file__).with_name("extensions")))
extensions = [
    "figures",
    "formulas",
    "slides",
    "words",
    "myst_nb",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_static", "colab.ipynb"]
suppress_warnings = ["mystnb.unknown_mime_type"]  # the ledger in the closing cells

nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show the solution", "Hide the solution"  # no other cell is folded
myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_cite_id = "{key}"
bibtex_reference_style = "author_year"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 90
copybutton_prompt_text = "$ "

DEMO = Path(__file__).with_name("demo")
if DEMO.is_dir():
    runpy.run_path(str(DEMO / "build.py"))["write"](DEMO)

ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
PLACEHOLDER = "https://github.com/OWNER/REPOSITORY"
if ADDRESS != PLACEHOLDER:
    tags.add("published")  # noqa: F821 - Sphinx gives it
COLAB = Path(__file__).with_name("colab.ipynb")
COLAB.write_text(COLAB.read_text(encoding="utf-8").replace(PLACEHOLDER, ADDRESS), encoding="utf-8")

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_favicon = html_logo = "_static/logo.svg"
html_extra_path = [f"demo/{name}" for name in ("try.css", "try.js", "try_data.js") if DEMO.is_dir()]
html_math_renderer = "mathml"
html_use_index = html_domain_indices = False  # the search does that
html_show_search_summary = False  # it would fetch the pages found, which file:// forbids
html_sourcelink_suffix = ""  # downloads are called .ipynb
html_context = {"default_mode": "auto"}  # as the system is set
html_theme_options = {"home_page_in_toc": True, "show_toc_level": 2}
if ADDRESS != PLACEHOLDER:
    html_theme_options |= {
        "repository_url": ADDRESS,
        "use_repository_button": True,
        "path_to_docs": "notebooks",
        "launch_buttons": {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
    }

NAVIGATION = re.compile(r"^.*\[contents\]\(\.\./README\.md\).*$", re.MULTILINE)  # the theme has its own
PAGE_LINK = re.compile(r"\[([^]]*)\]\((\w+\.ipynb)(#[^)\s]*)?\)")
LINK = re.compile(r"(?<!!)\[([^]]*)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")


def adapt(app, docname, content):
    """Pages are made for JupyterLab: take out what only serves there; and link to no page that is not there."""
    content[0] = content[0].replace(PLACEHOLDER, ADDRESS)
    if docname == "index" and "try" not in app.env.found_docs:  # the folder of a run has no demo
        content[0] = re.sub(r"\n(try|.*\(try\.md\).*)(?=\n)", "", content[0])

    def keep_link(link):
        return link[0] if Path(app.srcdir, link[2]).exists() else link[1]

    if Path(app.env.doc2path(docname)).suffix != ".ipynb":
        content[0] = PAGE_LINK.sub(keep_link, content[0])
        return
    notebook = json.loads(content[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = LINK.sub(keep_link, NAVIGATION.sub("", "".join(cell["source"])))
            continue
        cell["source"] = "".join(cell["source"]).removeprefix("# NBVAL_CHECK_OUTPUT\n")
        if "solution" in (tags := cell["metadata"].setdefault("tags", [])):
            tags.append("hide-cell")
    content[0] = json.dumps(notebook)


def setup(app):
    app.connect("source-read", adapt)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
