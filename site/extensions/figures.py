"""Figures with numbers, captions and anchors, and links to them.

A notebook holds no word of that: the figures are its PNG outputs in their order, the captions are their
alternative texts, and a link to a figure is one to its cell.
"""

import base64
import functools
import hashlib
import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.util import logging

log = logging.getLogger(__name__)
# A link to a cell, as JupyterLab and nbconvert call it; the brackets of JSON lie on other lines.
FIGURE = re.compile(r"\[([^]\[\n]*)\]\(([^)\s#]+\.ipynb)#cell-id=([^)\s]+)\)")
figures: dict[str, dict] = {}  # what is known of a figure, by the hash that myst-nb names its file by


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


def note_figures(app, docname, content):
    """Resolve links to figures, and note what is known of each figure of a page."""
    content[0] = FIGURE.sub(lambda link: link_figure(app, link), content[0])
    if (path := Path(app.env.doc2path(docname))).suffix == ".ipynb":
        for number, _, png, about in pictures(json.loads(content[0])):
            width = int.from_bytes(png[16:20], "big")
            known = {"number": f"{int(path.name[:2])}.{number}", "wide": width > 600, "width": f"{width}px"}
            figures[hashlib.sha256(png).hexdigest()] = {"alt": "", **known, **about}


def describe_figures(app, doctree):
    """Give figures their number, their alternative text, which myst-nb drops, also as a caption, and a width, with
    which Sphinx links them to their file, at its true size."""
    labels = app.env.get_domain("std")
    for image in list(doctree.findall(nodes.image)):
        if about := dict(figures.get(Path(image["uri"]).stem, {})):
            number, classes = about.pop("number"), ["wide"] * about.pop("wide")
            name, image.attributes = f"figure-{number.replace('.', '-')}", image.attributes | about
            caption = nodes.caption("", f"Figure {number}. {about['alt']}")
            image.replace_self(nodes.figure("", image.copy(), caption, ids=[name], classes=classes))
            labels.labels[name] = app.env.docname, name, f"Figure {number}"
            labels.anonlabels[name] = app.env.docname, name


def setup(app):
    app.connect("source-read", note_figures)
    app.connect("doctree-read", describe_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
