"""Sphinx's configuration, and what it lacks: formulas without JavaScript, figures with numbers.

``course/site.py`` builds it, from a folder that also holds the executed notebooks.
"""

import base64
import functools
import hashlib
import json
import re
import runpy
import sys
import tomllib
from pathlib import Path

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging

from srlib.files import ROOT

project = html_title = "Single-image super-resolution"
author = copyright = ""
sys.path.insert(0, str(Path(__file__).parent))
extensions = [
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

log = logging.getLogger(__name__)
MATHML = LatexToMathML()
NAVIGATION = re.compile(r"^.*\[contents\]\(\.\./README\.md\).*$", re.MULTILINE)  # the theme has its own
LINK = re.compile(r"(?<!!)\[([^]]*)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
FIGURE = re.compile(
    r"\[([^]]*)\]\(([^)\s#]+\.ipynb)#cell-id=([^)\s]+)\)"
)  # as JupyterLab and nbconvert call a cell
figures: dict[str, dict[str, str]] = {}  # what is known of a figure, by the hash that myst-nb names its file by


def pictures(notebook):
    """Each picture of a page in reading order: its number, its cell's id, its bytes, its metadata."""
    outputs = ((cell.get("id"), output) for cell in notebook["cells"] for output in cell.get("outputs", ()))
    found = ((cell, output) for cell, output in outputs if "image/png" in output.get("data", {}))
    for number, (cell, output) in enumerate(found, start=1):
        png = base64.b64decode("".join(output["data"]["image/png"]))
        yield number, cell, png, output["metadata"].get("image/png", {})


@functools.cache
def first_pictures(path):
    """The number of the first picture of each cell that has one, such as 2.8, by the cell's id."""
    found = list(pictures(json.loads(path.read_text(encoding="utf-8"))))
    return {cell: f"{int(path.name[:2])}.{number}" for number, cell, *_ in reversed(found)}


def link_figure(app, link):
    """A link to a cell becomes one to its first figure, by number; where the page is not there, only its text."""
    if not (path := Path(app.srcdir, link[2])).exists():
        return link[1]
    if number := first_pictures(path).get(link[3]):
        return f"[{link[1]} (Figure {number})](#figure-{number.replace('.', '-')})"
    log.warning("%s: no figure is there", link[0])
    return link[1]


def adapt(app, docname, content):
    """Pages are made for JupyterLab: take out what only serves there, and note what their figures are."""
    content[0] = content[0].replace(PLACEHOLDER, ADDRESS)
    content[0] = FIGURE.sub(lambda link: link_figure(app, link), content[0])
    if docname == "index" and "try" not in app.env.found_docs:  # the folder of a run has no demo
        content[0] = re.sub(r"\n(try|.*\(try\.md\).*)(?=\n)", "", content[0])
    if (path := Path(app.env.doc2path(docname))).suffix != ".ipynb":
        return
    notebook = json.loads(content[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = NAVIGATION.sub("", "".join(cell["source"]))
            cell["source"] = LINK.sub(
                lambda link: link[0] if Path(app.srcdir, link[2]).exists() else link[1], text
            )
            continue
        cell["source"] = "".join(cell["source"]).removeprefix("# NBVAL_CHECK_OUTPUT\n")
        if "solution" in (tags := cell["metadata"].setdefault("tags", [])):
            tags.append("hide-cell")
    for number, _, png, about in pictures(notebook):
        known = {"number": f"{int(path.name[:2])}.{number}", "width": f"{int.from_bytes(png[16:20], 'big')}px"}
        figures[hashlib.sha256(png).hexdigest()] = {"alt": "", **known, **about}
    content[0] = json.dumps(notebook)


def describe_figures(app, doctree):
    """Give figures their number, their alternative text, which myst-nb drops, also as a caption, and a width, with
    which Sphinx links them to their file, at its true size."""
    labels = app.env.get_domain("std")
    for image in list(doctree.findall(nodes.image)):
        if about := dict(figures.get(Path(image["uri"]).stem, {})):
            number = about.pop("number")
            name, image.attributes = f"figure-{number.replace('.', '-')}", image.attributes | about
            caption = nodes.caption("", f"Figure {number}. {about['alt']}")
            image.replace_self(nodes.figure("", image.copy(), caption, ids=[name]))
            labels.labels[name] = app.env.docname, name, f"Figure {number}"
            labels.anonlabels[name] = app.env.docname, name


def write_formula(self, node):
    """Formulas as MathML, which browsers draw by themselves."""
    block = isinstance(node, nodes.math_block)
    try:
        formula = MATHML.convert_with_local_state(node.astext().strip(), displaystyle=block)
    except LatexError as error:
        log.warning("unreadable formula: %s", error, location=node)
        formula = self.encode(node.astext())
    self.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))
    app.connect("source-read", adapt)
    app.connect("doctree-read", describe_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
