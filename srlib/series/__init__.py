"""The series: papermill over the five notebooks, the run folder and its report pages.

``python -m srlib run`` is :func:`main` here. ``python -m srlib.series`` re-executes the committed pages.
"""

from srlib.series.command import add_arguments, main

__all__ = ["add_arguments", "main"]
