"""srlib: the training and metric code under a course on single-image super-resolution.

The rooms, from the ground up; each imports only from those before it: color, degrade, data, models,
equivalence, metrics, grids, losses, machine, checkpoints, training, experiments, evaluation, plots, blind,
results, page, series, cli.
"""

__version__ = "0.1.0"

__all__ = ["Page", "open_page"]


def __getattr__(name: str):
    # Imported on first use: a GPU machine with torch alone can use the light core without matplotlib.
    if name in __all__:
        from srlib import page

        return getattr(page, name)
    raise AttributeError(f"module 'srlib' has no attribute {name!r}")
