"""srlib: the training and metric code under a course on single-image super-resolution.

The rooms, from the ground up; each imports only from those before it: color, degrade, data, models,
equivalence, metrics, grids, losses, machine, checkpoints, config, training, experiments, evaluation, pictures,
upscaling, plots, blind, results, page, series, cli.
"""

from importlib import import_module

__version__ = "0.1.0"

# name: the room that it comes from
_DOORS = {"Page": "page", "open_page": "page", "upscale": "upscaling"}
__all__ = list(_DOORS)


def __getattr__(name: str):
    # Imported on first use: a GPU machine with torch alone can use the light core without matplotlib.
    if name in _DOORS:
        return getattr(import_module(f"srlib.{_DOORS[name]}"), name)
    raise AttributeError(f"module 'srlib' has no attribute {name!r}")
