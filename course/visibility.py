"""Can anyone see a grid? What two published models of the eye say, and a test that a reader takes in the page."""

from dataclasses import dataclass

import numpy as np

from course import widgets

# castleCSF (Ashraf et al. 2024), achromatic, static, a Gaussian patch of 1.5 degrees: cycles per degree and
# sensitivity at 43 cd/m^2, from the table in ColorVideoVDP 0.5.7 (csf_lut_weber_fixed_size.json, MIT licence).
CASTLE = {
    0.99: 143.7, 1.5: 220.3, 2.28: 279.8, 2.81: 291.5, 3.46: 286.9, 4.26: 266.3, 5.25: 233.0, 6.46: 192.4,
    7.96: 150.3, 9.81: 111.4, 12.08: 78.7, 14.88: 53.1, 18.33: 34.3, 22.57: 21.3, 27.8: 12.7, 34.25: 7.2,
    42.18: 4.0,
}  # fmt: skip
# The grids of period 4 that a staircase shows, as rows of one period in whole levels: what an 8-bit file can hold.
RUNGS: dict[str, list[list[int]]] = {
    "1 pixel of 16, 1 level": [[1, 0, 0, 0], *[[0] * 4] * 3],
    "2 pixels of 16, 1 level": [[1, 0, 0, 0], [0] * 4] * 2,
    "1 column of 4, 1 level": [[1, 0, 0, 0]] * 4,
    **{f"2 columns of 4, {n} level{'s' * (n > 1)}": [[n, n, 0, 0]] * 4 for n in (1, 2, 4, 8)},
}


def barten(frequency: float, luminance: float, field: float = 4.7) -> float:
    """Contrast sensitivity, one over the amplitude of the faintest visible wave relative to its mean: a wave of
    ``frequency`` cycles per degree on a square of ``field`` degrees and ``luminance`` cd/m^2, seen at leisure,
    half of the time, by both eyes of a young observer (Barten 2003, Proc. SPIE 5294, 231-238)."""
    optics = np.exp(-0.0016 * frequency**2 * (1 + 100 / luminance) ** 0.08)
    size = 1 + 144 / field**2 + 0.64 * frequency**2
    noise = 63 / luminance**0.83 + 1 / (1 - np.exp(-0.02 * frequency**2))
    return float(5200 * optics / np.sqrt(size * noise))


def castle(frequency: float, luminance: float) -> float:
    """The same by castleCSF, from ``CASTLE``; ValueError for a luminance that it was not read for."""
    if not 40 <= luminance <= 47:
        raise ValueError(f"the table holds 43 cd/m^2, got {luminance:.0f}")
    return float(np.exp(np.interp(np.log(frequency), np.log(list(CASTLE)), np.log(list(CASTLE.values())))))


MODELS = {"Barten 2003": barten, "castleCSF 2024": castle}


@dataclass(frozen=True)
class Screen:
    """An sRGB screen whose white has 200 cd/m^2: 24 inches, 1920 x 1080, seen from 60 cm, unless said otherwise;
    ``zoom`` is the number of screen pixels to a pixel of the picture."""

    pixels_per_degree: float = 37.8
    zoom: float = 1.0

    def luminance(self, level: float) -> float:
        """cd/m^2 of an 8-bit level above 10, by the curve of sRGB (IEC 61966-2-1)."""
        return 200 * ((level / 255 + 0.055) / 1.055) ** 2.4

    def contrast(self, level: float) -> float:
        """The change of luminance that one level makes, relative to the luminance."""
        return 2.4 / (level + 0.055 * 255)

    def times_threshold(self, pattern: np.ndarray, model: str) -> float:
        """How far the strongest wave of a grid on gray 128 stands above the threshold: from 1 on, it can be seen.
        ``pattern`` is a period ``[n, n]`` of levels. Waves are judged one by one; a sum helps a little more."""
        n = len(pattern)
        alone = 2 * np.arange(n) % n == 0  # a wave that is its own mirror image counts once, not twice
        waves = np.abs(np.fft.fft2(pattern)) / n**2 * np.where(np.outer(alone, alone), 1, 2)
        frequencies = np.hypot.outer(*[np.fft.fftfreq(n)] * 2) * self.pixels_per_degree / self.zoom
        sensitivity = [MODELS[model](frequency, self.luminance(128)) for frequency in frequencies.flat[1:]]
        return float((waves.flat[1:] * sensitivity).max() * self.contrast(128))

    def threshold(self, model: str) -> float:
        """The size in levels of the faintest visible grid of period 4: a single upright wave."""
        return 1 / self.times_threshold(np.sqrt(2) * np.array([[1, 0, -1, 0]] * 4), model)


def size(pattern: list[list[int]]) -> float:
    """The standard deviation of a pattern over its period: the measure of every grid on the page."""
    return float(np.std(pattern))


def staircase() -> None:
    """Display the test, which settles where 79 % of the answers are right (Levitt 1971), and keeps nothing."""
    rungs = [{"name": name, "size": size(pattern), "pattern": pattern} for name, pattern in RUNGS.items()]
    widgets.show("staircase", rungs=rungs)
