"""The features of `local_features` as tensor operations, for images that lie on a GPU.

`local_features.features` computes with OpenCV, one image after the other on a CPU: of the time of
an H200 and its CPU, that took a third. Here a whole batch goes through the same filters, with the
same kernels and borders. Lab colours are interpolated in OpenCV's way between nodes that OpenCV
computed. So both agree to a few millionths of a feature's deviation, and not in bits.
"""

from collections.abc import Iterator
from functools import cache
from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor

from vqad.array_types import Images
from vqad.detection import local_features
from vqad.detection.local_features import FeatureOptions

Planes = Float32[Tensor, "batch planes height width"]
Cells = Float32[Tensor, "batch channels rows cols"]

# Derivatives along (x, y), as OpenCV's Sobel operator of 3 x 3 pixels has them.
_ALONG: Final = {0: (1.0, 2.0, 1.0), 1: (-1.0, 0.0, 1.0), 2: (1.0, -2.0, 1.0)}
_FIRST: Final = ((1, 0), (0, 1))
_SECOND: Final = ((2, 0), (0, 2), (1, 1))
_LAPLACIAN: Final = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
# OpenCV has Lab at so many values of each channel, and interpolates between them in so many steps.
_NODES: Final = 33
_STEPS: Final = 16
_LEVELS: Final = 2**14  # of lightness from 0 to 100, and of each colour from -128 to 128
_LEAST: Final = (0.0, -128 / 255, -128 / 255)  # of each plane
_WIDTH: Final = (1.0, 256 / 255, 256 / 255)
_LESS_THAN_STEP: Final = 1 / 64  # what OpenCV rounds away before it cuts off the rest of a step


@torch.inference_mode()
def features(
    images: Images, options: FeatureOptions
) -> Float32[Tensor, "batch rows cols channels"]:
    """Features of images of ``image_size_px`` on each side, RGB in [0, 1], on their device."""
    planes = _planes(images, options)
    found = []
    for sigma_px in local_features.SIGMAS:
        sigma, factor = local_features.scale_of(sigma_px, options)
        blurred = _blurred(F.avg_pool2d(planes, factor), sigma / factor)
        if sigma_px in local_features.COLOUR_SIGMAS:
            found.append(_down(blurred, options))
        found += _details(blurred, sigma / factor, options)
    found += _lines(planes[:, :1], options)
    return torch.cat(found, 1).movedim(1, -1).contiguous()


def _planes(images: Images, options: FeatureOptions) -> Planes:
    """Lightness and two colours, or brightness alone, each about 1 wide."""
    planes = images[:, :1] if options.grey else _lab(images)
    if options.exposure:
        return torch.cat([_exposed(planes[:, :1] * 255), planes[:, 1:]], 1)
    return planes.contiguous()


def _lab(images: Images) -> Planes:
    """CIE Lab, as `cv2.COLOR_RGB2LAB` has it, divided by 100, 255 and 255."""
    nodes = torch.from_numpy(_lab_at_nodes()).to(images.device)
    num_steps = _STEPS * (_NODES - 1)
    stepped = (images * num_steps + _LESS_THAN_STEP).floor() / num_steps
    blue_first = stepped.flip(1).movedim(1, -1)[None] * 2 - 1
    found = F.grid_sample(nodes[None], blue_first, align_corners=True)[0].movedim(0, 1)
    rounded = (found * _LEVELS + 0.5).floor() / _LEVELS
    least, width = (
        torch.tensor(each, device=images.device)[:, None, None] for each in (_LEAST, _WIDTH)
    )
    return rounded * width + least


@cache
def _lab_at_nodes() -> Float32[ndarray, "planes nodes nodes nodes"]:
    values = np.linspace(0, 1, _NODES, dtype=np.float32)
    colours = np.stack(np.meshgrid(values, values, values, indexing="ij"), -1)
    lab = cv2.cvtColor(colours.reshape(_NODES, -1, 3), cv2.COLOR_RGB2LAB).reshape(colours.shape)
    planes = (lab / (100, 255, 255) - _LEAST) / _WIDTH
    return np.moveaxis(planes, -1, 0).astype(np.float32)


def _exposed(brightness: Planes) -> Planes:
    log = brightness.log1p()
    median = _median(log)
    spread = local_features.DEVIATIONS * _median((log - median).abs())
    limit = local_features.EXPOSURE_LIMIT
    away = (log - median) / (spread + local_features.EXPOSURE_FLOOR)
    return (away.clamp(-limit, limit) + limit) / (2 * limit)


def _median(planes: Planes) -> Tensor:
    """The median of each plane; of an even number the mean of the two in the middle, as numpy's."""
    ordered = planes.flatten(2).sort(2).values
    num = ordered.shape[2]
    middle = (ordered[..., (num - 1) // 2] + ordered[..., num // 2]) / 2
    return middle[..., None, None]


def _details(blurred: Planes, sigma: float, options: FeatureOptions) -> Iterator[Cells]:
    """Energies of first and second derivatives of lightness, and of the colours' Laplacian."""
    kernels = torch.tensor([np.outer(_ALONG[y], _ALONG[x]).tolist() for x, y in _FIRST + _SECOND])
    found = _filtered(blurred[:, :1], kernels.to(blurred.device))
    orders = torch.tensor([x + y for x, y in _FIRST + _SECOND], device=blurred.device)
    found = found * (sigma**orders)[:, None, None]
    yield _energy(found, sigma, options)
    yield _down(found[:, 2:3] + found[:, 3:4], options)
    if not options.grey:
        laplacian = torch.tensor(_LAPLACIAN, device=blurred.device)[None]
        colours = _filtered(blurred[:, 1:].flatten(0, 1)[:, None], laplacian) * sigma**2
        yield _energy(colours.view(len(blurred), 2, *colours.shape[2:]), sigma, options)


def _lines(light: Planes, options: FeatureOptions) -> Iterator[Cells]:
    """The strongest dark and the strongest bright line of four directions in each place."""
    size = 2 * options.grid
    small = F.avg_pool2d(light, light.shape[-1] // size)
    kernels = torch.from_numpy(np.stack(local_features.line_kernels())).to(light.device)
    responses = _filtered(small, kernels)
    signed = torch.stack([responses, -responses], 2).flatten(1, 2).clamp(min=0)
    reach = local_features.LINE_REACH
    largest = F.max_pool2d(signed, reach, stride=1, padding=reach // 2)[..., ::2, ::2]
    yield _blurred(largest, local_features.LINE_BLUR_CELLS)


def _energy(responses: Planes, sigma: float, options: FeatureOptions) -> Cells:
    cells = _down(responses * responses, options)
    around = local_features.around_of(sigma, responses.shape[-1], options)
    return (_blurred(cells, around) + local_features.ENERGY_FLOOR).sqrt()


def _down(planes: Planes, options: FeatureOptions) -> Cells:
    return F.avg_pool2d(planes, planes.shape[-1] // options.grid)


def _filtered(
    planes: Float32[Tensor, "batch 1 height width"],
    kernels: Float32[Tensor, "kernels side side"],
) -> Float32[Tensor, "batch kernels height width"]:
    """Correlations of one plane; the border is reflected without its last pixel."""
    reach = kernels.shape[-1] // 2
    return F.conv2d(F.pad(planes, (reach,) * 4, mode="reflect"), kernels[:, None])


def _blurred(planes: Planes, sigma: float) -> Planes:
    """A Gaussian blur, first along the rows."""
    kernel = torch.tensor(_gaussian(sigma), device=planes.device)
    reach, flat = len(kernel) // 2, planes.flatten(0, 1)[:, None]
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="reflect"), kernel[None, None, None])
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="reflect"), kernel[None, None, :, None])
    return flat.view(planes.shape)


@cache
def _gaussian(sigma: float) -> list[float]:
    """The weights that `cv2.GaussianBlur` takes for pictures of float32."""
    size = round(8 * sigma + 1) | 1
    weights: list[float] = cv2.getGaussianKernel(size, sigma, cv2.CV_32F)[:, 0].tolist()
    return weights
