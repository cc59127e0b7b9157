"""Features of an image at a grid of places: colour, and energy of derivatives at several scales.

They are fixed filters, so nothing is learnt here. Each place of the grid covers a few pixels and
gets, for every scale, how strong edges and lines of each direction are around it, and what colour
it has. Local statistics (`local_gaussian`, `local_neighbours`) compare them with the features of
normal images at the same place.

The paper has none of this. Method: PaDiM (Defard et al. 2021) with hand-made features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float32
from numpy import ndarray

Picture = Float32[ndarray, "height width 3"]  # RGB in [0, 1]
OwnPicture = Float32[ndarray, "_ _ 3"]  # the same, one of several of different sizes
Plane = Float32[ndarray, "height width"]
Cells = Float32[ndarray, "rows cols"]
Features = Float32[ndarray, "rows cols channels"]

LARGEST_GRID: Final = 64  # places on each side
SMALLEST_CELL_PX: Final = 2
# Gaussian sigmas for cells of 4 px, as at an input of 256 px; they scale with the cell.
_REFERENCE_CELL_PX: Final = 4
_SMALLEST_SIGMA_PX: Final = 0.6
SIGMAS: Final = (1.0, 2.5, 6.0)  # of derivatives
COLOUR_SIGMAS: Final = (2.5, 6.0)  # of colours themselves
_SMALLEST_BLUR: Final = 1.2  # px; a narrower one on a shrunken picture would not be round
_SMALLEST_AROUND_CELLS: Final = 0.375
ENERGY_FLOOR: Final = 1e-8  # keeps the root of no energy away from a steep slope
# A product is grey if its channels differ by less than this on average, in [0, 1]. JPEG adds some.
_LARGEST_GREY_DIFFERENCE: Final = 2 / 255
# Lines are sought at half a cell a pixel: sigmas across and along them, in these pixels.
_LINE_WIDTH: Final = 0.8
_LINE_LENGTH: Final = 5.0
_LINE_RADIUS: Final = 12
LINE_REACH: Final = 5  # half cells on each side
LINE_BLUR_CELLS: Final = 0.5
EXPOSURE_LIMIT: Final = 4.0
# So many median deviations are a standard deviation of a normal distribution.
DEVIATIONS: Final = 1.48
EXPOSURE_FLOOR: Final = 0.08  # of the spread, in logarithms of 1 + grey level


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """How features are taken from an image."""

    image_size_px: int
    grey: bool = False  # of brightness alone
    exposure: bool = False  # brightness relative to the image's own median and spread

    def __post_init__(self) -> None:
        """Refuse sizes that no grid fits."""
        if self.image_size_px < SMALLEST_CELL_PX or self.image_size_px % self.cell_px:
            raise ValueError(
                f"image_size_px must be a multiple of {self.cell_px}, got {self.image_size_px}"
            )

    @property
    def cell_px(self) -> int:
        """Side of a place: 4 px at 256 px, 2 px at up to 128 px."""
        return max(SMALLEST_CELL_PX, self.image_size_px // LARGEST_GRID)

    @property
    def grid(self) -> int:
        """Places on each side."""
        return self.image_size_px // self.cell_px

    @property
    def num_channels(self) -> int:
        """Features of a place."""
        return 28 if self.grey else 38


def is_grey(pictures: Sequence[OwnPicture]) -> bool:
    """Find whether a product is pictured without colour."""
    spread = np.mean([np.ptp(each, axis=2).mean() for each in pictures])
    return bool(spread < _LARGEST_GREY_DIFFERENCE)


def differs_in_exposure(pictures: Sequence[OwnPicture]) -> bool:
    """Find whether pictures of a product differ in brightness by more than each differs within.

    A wide range of exposures hides faint defects in what is normal. Where the range is narrow,
    brightness itself is a feature worth keeping: without it, detection was worse on products of
    which all pictures have about the same exposure.
    """
    light = [each.mean(2) for each in pictures]
    within = np.mean([each.std() for each in light])
    return bool(np.std([each.mean() for each in light]) > within)


def features(picture: Picture, options: FeatureOptions) -> Features:
    """Features of one picture of ``image_size_px`` on each side, in [0, 1]."""
    planes = _planes(picture, options)
    found = []
    for sigma_px in SIGMAS:
        sigma, factor = scale_of(sigma_px, options)
        size = options.image_size_px // factor
        small = cv2.resize(planes, (size, size), interpolation=cv2.INTER_AREA)
        blurred = cv2.GaussianBlur(small, (0, 0), sigma / factor)
        if sigma_px in COLOUR_SIGMAS:
            found.append(_down(blurred, options))
        found += _details(blurred, sigma / factor, options)
    found += _lines(planes if options.grey else planes[..., 0], options)
    return np.dstack(found)


def scale_of(sigma_px: float, options: FeatureOptions) -> tuple[float, int]:
    """A sigma in pixels, and how far the picture is shrunk before a blur of it.

    Wide blurs need no fine pixels.
    """
    sigma = max(sigma_px * options.cell_px / _REFERENCE_CELL_PX, _SMALLEST_SIGMA_PX)
    factor = 1
    while factor < options.cell_px and sigma / (2 * factor) >= _SMALLEST_BLUR:
        factor *= 2
    return sigma, factor


def _planes(picture: Picture, options: FeatureOptions) -> ndarray:
    """Lightness and two colours, or brightness alone, each about 1 wide."""
    if options.grey:
        grey = np.ascontiguousarray(picture[..., 0])
        return _exposed(grey * 255) if options.exposure else grey
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    lab *= np.array([1 / 100, 1 / 255, 1 / 255], np.float32)
    if options.exposure:
        lab[..., 0] = _exposed(lab[..., 0] * 255)
    return lab


def _exposed(brightness: Plane) -> Plane:
    log = np.log1p(brightness)
    median = np.median(log)
    spread = DEVIATIONS * np.median(np.abs(log - median)) + EXPOSURE_FLOOR
    bounded = ((log - median) / spread).clip(-EXPOSURE_LIMIT, EXPOSURE_LIMIT)
    return ((bounded + EXPOSURE_LIMIT) / (2 * EXPOSURE_LIMIT)).astype(np.float32)


def _details(blurred: ndarray, sigma: float, options: FeatureOptions) -> Iterator[ndarray]:
    """Energies of first and second derivatives of lightness, and of the colours' Laplacian."""
    light = blurred if options.grey else np.ascontiguousarray(blurred[..., 0])
    first = [cv2.Sobel(light, cv2.CV_32F, *order) * sigma for order in ((1, 0), (0, 1))]
    second = [cv2.Sobel(light, cv2.CV_32F, *order) * sigma**2 for order in ((2, 0), (0, 2), (1, 1))]
    yield from (_energy(each, sigma, options) for each in (*first, *second))
    yield _down(second[0] + second[1], options)
    if not options.grey:
        for channel in (1, 2):
            colour = np.ascontiguousarray(blurred[..., channel])
            yield _energy(cv2.Laplacian(colour, cv2.CV_32F) * sigma**2, sigma, options)


def _lines(light: Plane, options: FeatureOptions) -> Iterator[Cells]:
    """The strongest dark and the strongest bright line of four directions in each place.

    Averaging along a line lifts a thin crack out of the grain, and the largest value of a place
    is not diluted by the rest of it.
    """
    size = 2 * options.grid
    small = cv2.resize(light, (size, size), interpolation=cv2.INTER_AREA)
    reach = np.ones((LINE_REACH, LINE_REACH), np.uint8)
    for kernel in line_kernels():
        response = cv2.filter2D(small, cv2.CV_32F, kernel)
        for signed in (response, -response):
            largest = cv2.dilate(np.maximum(signed, 0), reach)[::2, ::2]
            yield cv2.GaussianBlur(largest, (0, 0), LINE_BLUR_CELLS)


@cache
def line_kernels() -> list[ndarray]:
    """Second derivatives across a line, averaged along it, at angles of 0, 45, 90, 135 degrees."""
    y, x = np.mgrid[-_LINE_RADIUS : _LINE_RADIUS + 1, -_LINE_RADIUS : _LINE_RADIUS + 1]
    kernels = []
    for angle in np.arange(4) * np.pi / 4:
        along = x * np.cos(angle) + y * np.sin(angle)
        across = -x * np.sin(angle) + y * np.cos(angle)
        window = np.exp(-((across / _LINE_WIDTH) ** 2 + (along / _LINE_LENGTH) ** 2) / 2)
        kernel = (1 - (across / _LINE_WIDTH) ** 2) * window
        kernel -= window * kernel.sum() / window.sum()  # an even surface has no line
        kernels.append((kernel / np.abs(kernel).sum()).astype(np.float32))
    return kernels


def _energy(response: Plane, sigma: float, options: FeatureOptions) -> Cells:
    # Shrunk first: blurring the small picture costs a sixteenth, and both are averages.
    cells = _down(response * response, options)
    around = around_of(sigma, response.shape[0], options)
    return np.sqrt(cv2.GaussianBlur(cells, (0, 0), around) + np.float32(ENERGY_FLOOR))


def around_of(sigma: float, size: int, options: FeatureOptions) -> float:
    """Sigma, in cells, of the average around a place, of a response ``size`` pixels wide."""
    return max(sigma * options.grid / size, _SMALLEST_AROUND_CELLS)


def _down(planes: ndarray, options: FeatureOptions) -> ndarray:
    if planes.shape[0] == options.grid:
        return planes
    return cv2.resize(planes, (options.grid, options.grid), interpolation=cv2.INTER_AREA)
