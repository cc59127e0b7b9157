"""Networks that compute in bfloat16, the same on every machine up to the order of sums.

    y = round(sum of round(x) * round(w) + round(b))

Every convolution rounds its input and weights to bfloat16, adds the products up in float32, and
rounds the sum to bfloat16. Three things stay in float32: the first layer of an encoder, whose input
are pixels; the sums of the residual blocks of encoder and prior, with all that the prior computes
between convolutions; and the last layer of each network. What that computes is compared with other
numbers, and rounded logits of two codes would often be equal.

A machine with instructions for bfloat16 does this in one kernel. On any other one, float32 kernels
do it with rounded operands: the product of two numbers in bfloat16 is exact in float32. That is no
faster than float32. Only the order of the sums differs, and with it, here and there, the direction
in which a sum is rounded.
"""

import copy
from collections.abc import Iterator
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vqad.model.pixelsnail import CausalAttention, PixelSNAIL
from vqad.model.segmenter import Segmenter
from vqad.model.vqvae import VQVAE, Residual, Upsample

Precision = Literal["float32", "bfloat16"]

NetworkT = TypeVar("NetworkT", VQVAE, PixelSNAIL, Segmenter)


def has_instructions(device: torch.device) -> bool:
    """True if bfloat16 is faster here: on GPUs and CPUs that have instructions for it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def computed_by(precision: Precision, device: torch.device) -> str:
    """The number format, and what computes it where that is no instruction for it; for people."""
    if precision == "bfloat16" and not has_instructions(device):
        return "bfloat16 by float32 kernels, because this machine has no instructions for it"
    return precision


def in_precision(network: NetworkT, precision: Precision, *, native: bool = True) -> NetworkT:
    """The network itself for float32, else a copy that computes in bfloat16; in evaluation mode.

    ``native`` uses instructions for bfloat16 where the network's device has them. Its device must
    not change afterwards.
    """
    if precision == "float32":
        return network
    device = next(network.parameters()).device
    kernels = torch.bfloat16 if native and has_instructions(device) else torch.float32
    rounded = copy.deepcopy(network).eval().requires_grad_(False)
    if isinstance(rounded, VQVAE):
        _round_vqvae(rounded, kernels)
    elif isinstance(rounded, PixelSNAIL):
        for blocks in (rounded.residuals, rounded.attentions):
            _round(blocks, kernels, wide=True)
        for block in cast("Iterator[CausalAttention]", rounded.attentions):
            # Attention follows: where kernels take float32, that is faster in float32, too.
            cast(Rounded, block.project).wide = kernels == torch.float32
    else:
        _join_normalisations(rounded.body)
        _round(rounded.body, kernels)
        rounded.output = cast(nn.Conv2d, nn.Sequential(Widen(), rounded.output))
    return rounded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _round_vqvae(vqvae: VQVAE, kernels: torch.dtype) -> None:
    _, *others, _ = (at for at, each in enumerate(vqvae.encoder) if is_layer(each))
    before_residuals = others[-1]
    for at in others:
        vqvae.encoder[at] = rounded(vqvae.encoder[at], kernels, wide=at == before_residuals)
    *others, last = (at for at, each in enumerate(vqvae.decoder) if is_layer(each))
    for at in others:
        vqvae.decoder[at] = rounded(vqvae.decoder[at], kernels)
    vqvae.decoder[last] = nn.Sequential(Widen(), vqvae.decoder[last])
    for each in (*vqvae.encoder, *vqvae.decoder):
        if isinstance(each, Residual):
            _round(each, kernels)


def _round(network: nn.Module, kernels: torch.dtype, *, wide: bool = False) -> None:
    """Round all convolutions of a part of a network."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if is_layer(child):
                setattr(module, name, rounded(child, kernels, wide=wide))


def is_layer(module: nn.Module) -> bool:
    """True for what multiplies with weights."""
    return isinstance(module, nn.Conv2d | Upsample)


def rounded(layer: nn.Module, kernels: torch.dtype, *, wide: bool = False) -> nn.Module:
    """The layer with rounded operands and sums; ``wide`` gives its sums the type float32."""
    if isinstance(layer, Upsample):
        return RoundedUpsample(layer, kernels)
    return Rounded(cast(nn.Conv2d, layer), kernels, wide=wide)


class Rounded(nn.Conv2d):
    """A convolution whose operands and sums are rounded to bfloat16."""

    def __init__(self, conv: nn.Conv2d, kernels: torch.dtype, *, wide: bool) -> None:
        """Round the weights; ``kernels`` is the type of numbers that compute."""
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            cast("tuple[int, int]", conv.kernel_size),
            cast("tuple[int, int]", conv.stride),
            cast("tuple[int, int]", conv.padding),
            cast("tuple[int, int]", conv.dilation),
            bias=conv.bias is not None,
            device="meta",
        )
        self.wide = wide
        _take_weights(self, conv, kernels)

    def operand(self, x: Tensor) -> Tensor:
        """Numbers as the kernels take them, rounded."""
        return operand(x, self.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Features (batch, channels, rows, cols), all of them numbers of bfloat16."""
        sums = super().forward(self.operand(x)).to(torch.bfloat16)
        return sums.float() if self.wide else sums

    def on_cells(self, x: Tensor) -> Tensor:
        """The same for cells (..., channels), where the kernel is of size 1."""
        sums = linear(x, self.weight.flatten(1), self.bias)
        return sums.float() if self.wide else sums


class RoundedUpsample(nn.ConvTranspose2d):
    """`Rounded` for a transposed convolution."""

    def __init__(self, conv: Upsample, kernels: torch.dtype) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 4, stride=2, padding=1, device="meta")
        _take_weights(self, conv, kernels)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Features (batch, channels, rows, cols) to (batch, out, 2 rows, 2 cols)."""
        assert output_size is None
        return super().forward(operand(x, self.weight.dtype)).to(torch.bfloat16)


class Widen(nn.Module):
    """Gives numbers the type float32."""

    def forward(self, x: Tensor) -> Tensor:
        """The same numbers."""
        return x.float()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Rounded sums of x (..., channels) and weights (out, channels) of a `Rounded`."""
    return F.linear(operand(x, weight.dtype), weight, bias).to(torch.bfloat16)


def operand(x: Tensor, kernels: torch.dtype) -> Tensor:
    """Numbers rounded to bfloat16, in the type of the kernels."""
    return x.to(torch.bfloat16).to(kernels)


def _take_weights(
    to: nn.Conv2d | nn.ConvTranspose2d, layer: nn.Module, kernels: torch.dtype
) -> None:
    for name, value in layer.named_parameters():
        setattr(to, name, nn.Parameter(operand(value.detach(), kernels), requires_grad=False))


def _join_normalisations(body: nn.Sequential) -> None:
    """Put each normalisation's factor and sum into the weights of the convolution before it."""
    for at, module in enumerate(body):
        if isinstance(module, nn.BatchNorm2d):
            body[at - 1] = fuse_conv_bn_eval(cast(nn.Conv2d, body[at - 1]), module)
            body[at] = nn.Identity()
