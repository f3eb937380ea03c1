"""srlib: the training and metric code under a course on single-image super-resolution.

From the ground up, each importing only from those before it (``make lint`` checks it):

images    colour spaces, tasks, HR to LR and the interpolations back
data      photos (bundled, any folder, CelebA), the decode-once store, batches on the device
models    bodies, heads, folding, transposed convolution <-> convolution and shuffle, costs
measure   PSNR with every convention, SSIM, library metrics, grid meters, the evaluator
train     the config, the loop and its callbacks, optimisers, losses, checkpoints, experiments
upscale   a photo through a network in tiles, photo files, shipped weights, export
commands  ``python -m srlib cache|train|evaluate|upscale|export``"""

__version__ = "0.2.0"
