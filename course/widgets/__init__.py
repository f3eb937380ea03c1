"""Figures that move: plain JavaScript in a cell's output, for JupyterLab, a saved page and the site alike. Each
goes beside a figure that stands in for it: where scripts do not run, only a line of text is left of it."""

import base64
import io
import json
from pathlib import Path
from typing import Any

from IPython import display
from PIL import Image

from course import plots

FOLDER = Path(__file__).parent
WITHOUT = "A figure that moves belongs here: run this cell to see it."


def picture_url(picture: plots.Picture) -> str:
    """A picture, without loss, in a data URL."""
    file = io.BytesIO()
    Image.fromarray(plots.as_array(picture)).save(file, "WEBP", lossless=True, method=6)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def html(name: str, data: dict[str, Any]) -> str:
    """The figure ``name`` as an element and its script; ``name.js`` says what ``data`` it takes."""
    scripts = [(FOLDER / f"{part}.js").read_text(encoding="utf-8") for part in ("common", name)]
    call = f'draw(document.getElementById("moving-{name}"), {json.dumps(data)});'
    code = "\n".join([*scripts, call]).replace("</", "<\\/")
    place = f'<div id="moving-{name}" style="max-width:760px"><em>{WITHOUT}</em></div>'
    return f"{place}<script>(() => {{{code}}})()</script>"


def show(name: str, **data: Any) -> None:
    """Display a figure, once on a page."""
    display.display({"text/html": html(name, data), "text/plain": f"A figure that moves: {name}"}, raw=True)
