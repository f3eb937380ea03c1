"""What runs on a device, by name: test_gpu_paths.py runs it on an imagined card, test_gpu.py on a real one."""

from collections.abc import Callable

from srlib.images import color, degrade
from srlib.images.tasks import DEGRADATIONS, pair
from srlib.measure import evaluation, grids, library, metrics
from srlib.train.losses import LOSSES

PLAIN = {"crop_border": 4, "channels": "y-full"}

# of two RGB pictures in [0, 1]
FUNCTIONS: dict[str, Callable] = {
    **{f"LR, {name}": lambda x, _, name=name: pair(x.mul(255).byte(), name, 4)[0] for name in DEGRADATIONS},
    "sizes": lambda x, _: [degrade.resize(x, (99, 200), name) for name in degrade.INTERPOLATIONS],
    "YCbCr": lambda x, _: [color.from_ycbcr(color.to_ycbcr(x, limited=on), limited=on) for on in (True, False)],
    "saturation": lambda x, _: color.saturation(x),
    **{f"loss, {name}": loss for name, loss in LOSSES.items()},
    "PSNR": lambda x, y: [metrics.psnr(x, y, **PLAIN, average=name) for name in metrics.AVERAGES],
    "PSNR, peak of each image": lambda x, y: metrics.psnr(x, y, **PLAIN, average="images", max_value="image"),
    "SSIM, uniform": lambda x, y: metrics.ssim(x, y, **PLAIN, window="uniform"),
    **library.LIBRARY_METRICS,
    "patch distance": metrics.patch_distance,
    "pattern": lambda x, _: grids.phase_pattern(x, 4),
    "line excess": lambda x, _: grids.line_excess(x, 8),
    "levels": lambda x, _: grids.grid_levels(x, 4),
    "phase error": lambda x, y: grids.phase_error(x, y, 4),
    "scores": lambda x, y: evaluation.score(x, y, crop_border=4, perceptual=True),
    "scores of gray": lambda x, y: evaluation.score(x[:, :1], y[:, :1]),
}
