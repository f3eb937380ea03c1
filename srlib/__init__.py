"""srlib: the training and metric code under a course on single-image super-resolution.

Its rooms, each importing only from those before it: images, data, models, measure, train, upscale, commands."""

__version__ = "0.2.0"
