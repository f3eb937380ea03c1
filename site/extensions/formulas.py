"""Formulas as MathML, which browsers draw by themselves, without a script."""

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging

log = logging.getLogger(__name__)
MATHML = LatexToMathML()


def write_formula(self, node):
    """Write a formula of the text, or one between its paragraphs."""
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
    return {"parallel_read_safe": True, "parallel_write_safe": True}
