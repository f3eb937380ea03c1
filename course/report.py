"""The run as web pages that need no network: each notebook as HTML, and an index over them."""

import json
import re
from collections.abc import Collection, Mapping
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from math_core import LatexError, LatexToMathML
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat.v4 import new_markdown_cell, new_notebook

from course import notebooks as pages
from course import results

TEMPLATE = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
MATH = LatexToMathML(fancy_error=False)


def index(run: Mapping[str, Any], notebooks: Mapping[str, Any], differences: list[str] | None) -> Any:
    """The report's first page, as a notebook of one Markdown cell; ``run`` is what ``environment.json`` holds."""
    head, rows = ("page", "executed", "time"), []
    for name, page in notebooks.items():
        done = page.metadata.srlib
        link = f'[{pages.headings(page)[0][1]}]({name}.ipynb) (<a href="{name}.ipynb">notebook</a>)'
        rows.append((link, done.finished[:16].replace("T", " "), results.duration(done.wall_seconds)))
    ledger, environment = results.collect(*notebooks.values()), json.dumps(run, indent=1)
    photos = "a few bundled photos: an illustration, not a verdict" if run["data"] == "sample" else run["data"]
    text = f"# Single-image super-resolution: what this run found\n\nPhotos: {photos}.\n\n## The pages\n\n"
    text += f"{results.table(head, rows)}\n\n## The results\n\n"
    if differences is not None:
        text += "Not as in `expected/`:\n\n" if differences else "All within the tolerances of `expected/`.\n\n"
        text += "".join(f"* {difference}\n" for difference in differences) + "\n"
    text += f"{results.table_markdown(results.headline(ledger))}\n\n## All that the pages recorded\n\n"
    text += f"{results.table_markdown(ledger)}\n\n## The environment\n\n```json\n{environment}\n```\n\n"
    text += " ".join(f'<a href="{name}">{name}</a>' for name in ("results.json", "environment.json", "run.log"))
    return new_notebook(cells=[new_markdown_cell(text)], metadata={"title": f"{run['data']}, {run['budget']}"})


def to_html(name: str, notebook: Any, names: Collection[str]) -> str:
    """A notebook as one HTML file. ``names``: of all pages of this run, for the links between them."""

    @pass_context
    def markdown_to_html(context: Any, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        return MarkdownWithMath(Renderer(names, escape=False, attachments=attachments)).render(source)

    exporter = HTMLExporter(raw_template=TEMPLATE)
    exporter.register_filter("markdown2html", markdown_to_html)
    return exporter.from_notebook_node(notebook, {"metadata": {"name": name}})[0]


class Renderer(IPythonRenderer):
    """Markdown with formulas as MathML (``unreadable`` holds what failed) and links within the run folder."""

    def __init__(self, names: Collection[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.names, self.unreadable = names, list[str]()

    def block_math(self, body: str, block: bool = True) -> str:
        try:
            return MATH.convert_with_local_state(body.strip(), displaystyle=block)
        except LatexError as error:
            self.unreadable.append(f"{body.strip()}: {error}")
            return f"<code>{escape(body)}</code>"

    def inline_math(self, body: str) -> str:
        return self.block_math(body, block=False)

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        page = re.fullmatch(r"(\w+)\.ipynb(#.*)?", url)
        if page and page[1] in self.names:
            url = f"{page[1]}.html{page[2] or ''}"
        elif url == "../README.md":
            url = "index.html"  # the contents of the repository are, here, the contents of the run
        elif not re.match(r"https?:|mailto:|#", url):
            return text  # leads to a file that is not in the run folder
        return super().link(text, url, title)
