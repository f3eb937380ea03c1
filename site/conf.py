"""Sphinx's configuration, and what it lacks: formulas without JavaScript, glossary terms that show on hover.

``course/site.py`` builds it, from a folder that also holds the executed notebooks.
"""

import base64
import hashlib
import json
import os
import re
import runpy
from pathlib import Path

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging

project = html_title = "Single-image super-resolution"
author = copyright = ""
extensions = [
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

REPOSITORY = os.environ.get("GITHUB_REPOSITORY", "")  # on GitHub: pages then link to it, and to Binder
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
if REPOSITORY:
    html_theme_options |= {
        "repository_url": f"https://github.com/{REPOSITORY}",
        "use_repository_button": True,
        "path_to_docs": "notebooks",
        "launch_buttons": {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
    }

log = logging.getLogger(__name__)
MATHML = LatexToMathML()
NAVIGATION = re.compile(r"^.*\[contents\]\(\.\./README\.md\).*$", re.MULTILINE)  # the theme has its own
LINK = re.compile(r"(?<!!)\[([^]]*)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
figures: dict[str, dict[str, str]] = {}  # alternative text and width, by the hash that myst-nb names a file by


def adapt(app, docname, content):
    """Pages are made for JupyterLab: take out what only serves there, and note what their figures are."""
    content[0] = content[0].replace("OWNER/REPOSITORY", REPOSITORY or "OWNER/REPOSITORY")
    if docname == "index" and "try" not in app.env.found_docs:  # the folder of a run has no demo
        content[0] = re.sub(r"\n(try|.*\(try\.md\).*)(?=\n)", "", content[0])
    if Path(app.env.doc2path(docname)).suffix != ".ipynb":
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
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                png = base64.b64decode("".join(output["data"]["image/png"]))
                about = {"width": f"{int.from_bytes(png[16:20], 'big')}px", "alt": ""}
                figures[hashlib.sha256(png).hexdigest()] = about | output["metadata"].get("image/png", {})
    content[0] = json.dumps(notebook)


def describe_figures(app, doctree):
    """myst-nb drops alternative texts; and with a width Sphinx links a figure to its file, at its true size."""
    for image in doctree.findall(nodes.image):
        image.attributes |= figures.get(Path(image["uri"]).stem, {})


def link_terms(app, doctree, docname):
    """Link the first use of each term of the glossary on a page of the course; its meaning shows on hover."""
    if not docname[0].isdigit():
        return
    meanings = {}
    for item in app.env.get_doctree("glossary").findall(nodes.definition_list_item):
        *terms, meaning = item.children
        for term in terms:
            meanings[term.astext()] = (term["ids"][0], " ".join(meaning.astext().split()))
    words = "|".join(sorted(meanings, key=len, reverse=True))
    word = re.compile(rf"(?<![\w-])(?<!wide )((?:{words})s?)(?![\w-])", re.IGNORECASE)
    prose = (nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.raw, nodes.math)
    for text in list(doctree.findall(nodes.Text)):
        parent, parts = text.parent, word.split(text.astext())
        while parent and not isinstance(parent, prose):
            parent = parent.parent
        if parent or len(parts) == 1:
            continue
        new = []
        for part in parts:
            term = next((word for word in (part, part.removesuffix("s"), part.lower()) if word in meanings), None)
            target, meaning = meanings.pop(term, (None, ""))
            if target:
                uri = f"{app.builder.get_relative_uri(docname, 'glossary')}#{target}"
                new.append(
                    nodes.reference("", part, internal=True, refuri=uri, reftitle=meaning, classes=["term"])
                )
            elif part:
                new.append(nodes.Text(part))
        text.parent.replace(text, new)


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
    app.connect("doctree-resolved", link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
