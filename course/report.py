"""The run as web pages that need no network: each notebook as HTML, and ``index.html`` over them."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment
from math_core import LatexError, LatexToMathML
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from course.results import Ledger, headline, merge, show
from course import notebooks as pages

_HERE = Path(__file__).parent
_MATH = LatexToMathML(fancy_error=False)


def to_mathml(latex: str, block: bool) -> str:
    """A formula as MathML, which browsers draw by themselves.

    Raises:
        LatexError: a command that is unknown to math-core.
    """
    return _MATH.convert_with_local_state(latex.strip(), displaystyle=block)


def unreadable_formulas(markdown: str) -> list[str]:
    """The formulas of a Markdown text that the report could only show as source, each with the reason."""
    renderer = _Renderer(frozenset())
    MarkdownWithMath(renderer=renderer).render(markdown)
    return renderer.unreadable


def page_html(name: str, notebook: Any, titles: Mapping[str, str]) -> str:
    """A page as one HTML file. ``titles``: of all pages of this run, by name, for the links between them."""
    exporter = _Exporter(raw_template=(_HERE / "page.html.j2").read_text(encoding="utf-8"))
    exporter.page_names = frozenset(titles)
    resources = {"metadata": {"name": name}, "series_pages": dict(titles)}
    return exporter.from_notebook_node(notebook, resources)[0]


def index_html(
    run: Mapping[str, Any],
    notebooks: Mapping[str, Any],
    ledgers: Mapping[str, Ledger],
    differences: Sequence[Any] = (),
    reference: str = "",
) -> str:
    """The report page.

    Args:
        run: the content of ``environment.json``.
        notebooks, ledgers: by page name, in reading order.
        differences: sentences on results that are not as expected. reference: how that was made.
    """
    cards = []
    for name, notebook in notebooks.items():
        figure, alt = _first_figure(notebook)
        record = run["pages"][name]
        cards.append(
            {
                "name": name,
                "title": pages.title(notebook),
                "figure": figure,
                "alt": alt,
                "time": duration(record["wall_seconds"]),
                "note": "" if record["this_run"] else f"from the run of {when(record['finished'])}",
                "results": rows(ledgers[name]),
            }
        )
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((_HERE / "index.html.j2").read_text(encoding="utf-8"))
    return template.render(
        run=run,
        pages=cards,
        differences=[str(difference) for difference in differences],
        reference=reference,
        headline=rows(headline(merge(ledgers.values()))),
        environment=list(_environment_rows(run)),
        finished=when(run["finished"]),
    )


def duration(seconds: float) -> str:
    """Seconds as people say them: ``7 s``, ``3 min 5 s``, ``2 h 10 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def rows(entries: Ledger) -> list[tuple[str, str, str]]:
    """Label, value and unit of each result, as text."""
    return [(label, show(entry["value"], entry["unit"]), entry["unit"]) for label, entry in entries.items()]


def when(moment: str) -> str:
    """An ISO time as people read it."""
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M")


def _environment_rows(run: Mapping[str, Any]) -> Any:
    yield "command", run["command"]
    commit = run["commit"] or "not a git checkout"
    yield "commit", commit + (" with uncommitted changes" if run["uncommitted_changes"] else "")
    yield "time", f"{duration(sum(p['wall_seconds'] for p in run['pages'].values()))} for the pages shown"
    if run["peak_memory_gib"]:
        yield "memory, largest process", f"{run['peak_memory_gib']:.2f} GiB"
    for name, value in run["machine"].items():
        yield name.replace("_", " "), value
    yield "packages", ", ".join(f"{name} {version}" for name, version in run["versions"].items())


def _first_figure(notebook: Any) -> tuple[str, str]:
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if picture := output.get("data", {}).get("image/png"):
                return picture.replace("\n", ""), output.get("metadata", {}).get("image/png", {}).get("alt", "")
    return "", ""


class _Renderer(IPythonRenderer):
    """Markdown as nbconvert has it, with formulas as MathML and links that stay within the run folder."""

    def __init__(self, page_names: frozenset[str], **options: Any) -> None:
        super().__init__(escape=False, **options)
        self.page_names, self.unreadable = page_names, []

    def _math(self, latex: str, block: bool) -> str:
        try:
            return to_mathml(latex, block)
        except LatexError as error:
            self.unreadable.append(f"{latex.strip()}: {error}")
            return f"<code>{escape(latex)}</code>"

    def block_math(self, body: str) -> str:
        return self._math(body, block=True)

    def inline_math(self, body: str) -> str:
        return self._math(body, block=False)

    def latex_environment(self, name: str, body: str) -> str:
        return self._math(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

    def link(self, text: str, url: str, title: str | None = None) -> str:
        page = re.fullmatch(r"(\w+)\.ipynb(#.*)?", url)
        if page and page[1] in self.page_names:
            url = f"{page[1]}.html{page[2] or ''}"
        elif url == "../README.md":
            url = "index.html"  # the contents of the repository are, here, the contents of the run
        elif not re.match(r"https?:|mailto:|#", url):
            return text  # leads to a file that is not in the run folder
        return super().link(text, url, title)


class _Exporter(HTMLExporter):
    page_names: frozenset[str] = frozenset()

    def markdown2html(self, context: Any, source: str) -> str:
        renderer = _Renderer(self.page_names, attachments=context.get("cell", {}).get("attachments", {}))
        return MarkdownWithMath(renderer=renderer).render(source)

    markdown2html.jinja_pass_arg = HTMLExporter.markdown2html.jinja_pass_arg
