"""Single-image super-resolution, from the ground up: images, data, models, measure, train, upscale, commands."""

__version__ = "0.2.0"
