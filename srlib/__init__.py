"""Single-image super-resolution; rooms, from the top: commands, upscale, train, measure, models, data, images"""

__version__ = "0.2.0"
