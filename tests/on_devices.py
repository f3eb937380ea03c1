"""What runs on a device, by name: test_gpu_paths.py runs it on an imagined card, test_gpu.py on a real one."""

from collections.abc import Callable

from srlib.images import color, degrade
from srlib.images.tasks import DEGRADATIONS, pair
from srlib.measure import evaluation, grids, library, metrics
from srlib.train.losses import LOSSES


def _psnr(x, y, **how):
    return metrics.psnr(x, y, **{"crop_border": 4, "channels": "as-is", "average": "images", **how})


def _back_from_ycbcr(x, limited: bool):
    return color.from_ycbcr(color.to_ycbcr(x, limited=limited), limited=limited)


# of two RGB pictures in [0, 1]
FUNCTIONS: dict[str, Callable] = {
    **{f"LR, {name}": lambda x, _, name=name: pair(x.mul(255).byte(), name, 4)[0] for name in DEGRADATIONS},
    **{
        f"size, {name}": lambda x, _, name=name: degrade.resize(x, (99, 200), name)
        for name in degrade.INTERPOLATIONS
    },
    **{f"YCbCr, {on}": lambda x, _, on=on: _back_from_ycbcr(x, on) for on in (True, False)},
    "saturation": lambda x, _: color.saturation(x),
    **{f"loss, {name}": loss for name, loss in LOSSES.items()},
    **{f"PSNR, {name}": lambda x, y, name=name: _psnr(x, y, channels=name) for name in metrics.CHANNELS},
    **{f"PSNR, {name}": lambda x, y, name=name: _psnr(x, y, average=name) for name in metrics.AVERAGES},
    "PSNR, peak of each image": lambda x, y: _psnr(x, y, max_value="image"),
    "SSIM, uniform": lambda x, y: metrics.ssim(x, y, crop_border=4, channels="y", window="uniform"),
    **library.LIBRARY_METRICS,
    "patch distance": metrics.patch_distance,
    "pattern": lambda x, _: grids.phase_pattern(x, 4),
    "line excess": lambda x, _: grids.line_excess(x, 8),
    "levels": lambda x, _: grids.grid_levels(x, 4),
    "phase error": lambda x, y: grids.phase_error(x, y, 4),
    "scores": lambda x, y: evaluation.score(x, y, crop_border=4, perceptual=True),
    "scores of gray": lambda x, y: evaluation.score(x[:, :1], y[:, :1]),
}
