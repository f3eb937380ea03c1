"""Slides for a lecture: the questions that a page asks before an experiment, and its figures, one at a time.

A file for each page in ``slides/``, beside the site's pages, whose pictures it shows; no network is needed.
"""

import hashlib
import json
import re
from html import escape
from pathlib import Path
from string import Template

from figures import pictures
from formulas import MATHML
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

TITLE = re.compile(r"^# (.+)", re.MULTILINE)
HEADING = re.compile(r"^#{2,3} (.+)", re.MULTILINE)
QUESTION = re.compile(r"\*{1,2}(?:Before you|Predict)")  # how a paragraph begins that is one
PREDICTION = re.compile(r"^predict\(", re.MULTILINE)  # the cell that takes the answer to what was asked before it
MARKDOWN = MarkdownIt().use(
    dollarmath_plugin, renderer=lambda tex, options: MATHML.convert_with_local_state(tex, displaystyle=False)
)


def render(text):
    """A line or a paragraph as HTML, without its links, which count from another folder."""
    return MARKDOWN.renderInline(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text))


def slides(name, notebook):
    """The slides of a page as HTML, in its order; solutions are not shown."""
    notebook["cells"] = [c for c in notebook["cells"] if "solution" not in c["metadata"].get("tags", ())]
    figures = {}
    for number, cell, png, about in pictures(notebook):
        figures.setdefault(cell, []).append((number, hashlib.sha256(png).hexdigest(), about.get("alt", "")))
    section, last = "", ""
    for cell in notebook["cells"]:
        source, questions = "".join(cell["source"]), []
        if cell["cell_type"] == "markdown":
            yield from (f"<h1>{render(title)}</h1>" for title in TITLE.findall(source))
            for heading in HEADING.findall(source):
                section = f"<h2>{render(heading)}</h2>"
            *_, last = paragraphs = source.split("\n\n")
            questions = [paragraph for paragraph in paragraphs if QUESTION.match(paragraph)]
        elif PREDICTION.search(source) and not QUESTION.match(last):
            sentences = re.split(r"(?<=[.?!]) ", last)
            questions = [last if len(last) < 400 else " ".join(s for s in sentences if s.endswith("?"))]
        for question in questions:
            yield f'{section}<p class="question">{render(question)}</p>'
        for number, digest, alt in figures.get(cell.get("id"), ()):
            label = f"{int(name[:2])}.{number}"
            link = f'<a href="../{name}.html#figure-{label.replace(".", "-")}">Figure {label}</a>'
            picture = f'<img src="../_images/{digest}.png" alt="{escape(alt)}">'
            yield f"{section}<figure>{picture}<figcaption>{link}. {escape(alt)}</figcaption></figure>"


def list_slides(app, docname, content):
    """Put links to the slides of all pages where a text asks for them."""
    pages = sorted(name for name in app.env.found_docs if name[0].isdigit())
    links = ", ".join(f'<a href="slides/{name}.html">{int(name[:2])}</a>' for name in pages)
    content[0] = content[0].replace("<!-- slides -->", links)


def write(app, exception):
    """Write the slides of the pages of a site that has been built."""
    if exception:
        return
    template = Template(Path(__file__).with_name("slides.html").read_text(encoding="utf-8"))
    (folder := Path(app.outdir, "slides")).mkdir(exist_ok=True)
    for path in sorted(Path(app.srcdir).glob("[0-9]*.ipynb")):
        found = slides(path.stem, json.loads(path.read_text(encoding="utf-8")))
        body = "\n".join(f"<section>{slide}</section>" for slide in found)
        page = template.substitute(number=int(path.stem[:2]), name=path.stem, slides=body)
        (folder / path.with_suffix(".html").name).write_text(page, encoding="utf-8")


def setup(app):
    app.connect("source-read", list_slides)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
