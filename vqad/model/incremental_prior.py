"""The prior with a key-value cache: a pass can be resumed at the first code that has changed.

The features of a cell depend only on the codes before it in raster order. So everything that a
pass computed stays valid up to the first code that changes. `begin` makes a pass over whole maps
and caches what later cells read of earlier ones: the inputs of the convolutions, and the keys and
values of the attention. `resume` computes a run of cells again, at a different place in every map,
and updates the cache. So a change costs only the cells after it that are asked for.

Where the prior computes in bfloat16, both round the same sums as the prior itself does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad.array_types import Codes, Logits
from vqad.model import bfloat16
from vqad.model.bfloat16 import Rounded
from vqad.model.pixelsnail import CausalAttention, CausalConv, GatedResidual, PixelSNAIL


@dataclass(frozen=True)
class KeyValueCache:
    """The features of some maps that later cells read; see the module."""

    grids: list[Tensor]  # the input of each convolution, (maps, places, channels)
    keys: list[Tensor]  # of each attention block, (maps, heads, cells, channels of a head)
    values: list[Tensor]

    def of(self, maps: Tensor) -> "KeyValueCache":
        """The cache of some of the maps, by their positions.

        It takes the place of this one: a map is copied only if its position changes.
        """
        moved = (maps != torch.arange(len(maps), device=maps.device)).nonzero()[:, 0]
        sources = maps[moved]

        def first(features: Tensor) -> Tensor:
            if features.is_cuda:
                features[moved] = features.index_select(0, sources)
                return features[: len(maps)]
            # On a CPU whole maps are copied as one; an assignment by positions goes from number to
            # number.
            for to, source in zip(moved.tolist(), features.index_select(0, sources), strict=True):
                features[to] = source
            return features[: len(maps)]

        return KeyValueCache(*([first(each) for each in kind] for kind in vars(self).values()))


class IncrementalPrior:
    """A PixelSNAIL whose passes can be resumed; it has the weights in another shape."""

    def __init__(self, prior: PixelSNAIL) -> None:
        """Copy the weights: after the prior was trained on or moved, make another one."""
        self.prior = prior
        config, device = prior.config, prior.embedding.weight.device
        # Each map is padded with zeros on all sides and then flattened. So the neighbours that a
        # convolution reads are at the same offsets from every cell, also at the border.
        self.frame = max(config.reach, config.input_reach)
        self.stride = config.latent_size + 2 * self.frame
        side = torch.arange(config.latent_size, device=device) + self.frame
        self.places = (side[:, None] * self.stride + side).flatten()
        self.input = _CodeTaps(prior, self.stride)
        self.residuals = [
            (_Taps(each.first, self.stride), _Taps(each.second, self.stride))
            for each in cast("list[GatedResidual]", prior.residuals)
        ]
        background = prior.background[0].flatten(1).T
        self.attentions = [
            _Attention(each, background)
            for each in cast("list[CausalAttention]", list(prior.attentions))
        ]
        self.output = _Output(prior)
        first = cast("GatedResidual", prior.residuals[0]).first.above
        self._operand = first.operand if isinstance(first, Rounded) else None

    def begin(self, codes: Codes) -> tuple[Logits, KeyValueCache]:
        """Make a pass over whole maps; returns the logits of every cell, and the cache."""
        cache = KeyValueCache([], [], [])
        batch, rows, cols = codes.shape
        x = self.input(*self._framed_codes(codes.flatten(1), self.places.expand(batch, -1)))
        # The channels of a cell lie together throughout: for the convolutions that is the memory
        # format channels_last, for everything else a matrix of cells.
        for residual, attention in zip(self.prior.residuals, self.attentions, strict=True):
            block = cast("GatedResidual", residual)
            before = self._kept(F.elu(x.view(batch, rows, cols, -1).movedim(-1, 1)))
            between = self._kept(F.elu_(block.first(before)))
            x = x + F.glu(block.second(between).movedim(1, -1).reshape(len(x), -1), 1)
            query, key, value = attention.heads(x.view(batch, rows * cols, -1))
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = attention.merge(x, mixed)
            cache.grids.extend(map(self._framed, (before, between)))
            cache.keys.append(key)
            cache.values.append(value)
        logits = self.output(x.view(batch, rows * cols, -1), slice(None))
        return logits.transpose(1, 2).unflatten(2, (rows, cols)), cache

    def resume(self, cache: KeyValueCache, codes: Tensor, start: Tensor, width: int) -> Tensor:
        """Logits (maps, codes of the codebook, width) of ``width`` cells from ``start`` (maps,) on.

        ``codes`` (maps, cells) are in raster order. The cache has to be valid for these codes
        before ``start``, and is then valid up to the end of the run. If a run extends beyond the
        end of its map, the last cell is repeated.
        """
        num_maps, num_cells = codes.shape
        cells = (start[:, None] + torch.arange(width, device=codes.device)).clamp(max=num_cells - 1)
        maps = torch.arange(num_maps, device=codes.device)[:, None]
        framed, at = self._framed_codes(codes, self.places[cells])
        # A cell attends to itself and to all cells before it. Later cells have to be masked: the
        # cache still has their keys of an earlier pass, under other codes.
        visible = cells[..., None] >= torch.arange(int(cells.max()) + 1, device=codes.device)
        x = self.input(framed, at)
        for stage, (first, second) in enumerate(self.residuals):
            before, between = (
                each.view(-1, each.shape[-1]) for each in cache.grids[2 * stage :][:2]
            )
            # Written before it is read: the cells of a run read each other. The order within
            # the run does not matter, because a cell reads only inputs of this layer, which are
            # all there, and never outputs of it.
            before[at] = self._kept(F.elu(x))
            between[at] = self._kept(F.elu(first(before, at)))
            x = x + F.glu(second(between, at), 1)
            x = self._attend(stage, cache, x, (maps, cells), visible)
        return self.output(x.view(num_maps, width, -1), cells).transpose(1, 2)

    def _attend(
        self,
        stage: int,
        cache: KeyValueCache,
        x: Tensor,
        at: tuple[Tensor, Tensor],
        visible: Tensor,
    ) -> Tensor:
        attention = self.attentions[stage]
        (maps, cells), seen = at, visible.shape[-1]
        query, key, value = attention.heads(x.view(*cells.shape, -1), cells)
        keys, values = cache.keys[stage], cache.values[stage]
        keys[maps, :, cells] = key.transpose(1, 2)
        values[maps, :, cells] = value.transpose(1, 2)
        mixed = F.scaled_dot_product_attention(
            query, keys[:, :, :seen], values[:, :, :seen], attn_mask=visible[:, None]
        )
        return attention.merge(x, mixed)

    def _kept(self, features: Tensor) -> Tensor:
        """The input of a convolution as the cache has it: rounded, where the convolution rounds."""
        return self._operand(features) if self._operand else features

    def _framed(self, features: Tensor) -> Tensor:
        framed = F.pad(features, [self.frame] * 4)
        return framed.movedim(1, -1).reshape(len(features), self.stride**2, -1)

    def _framed_codes(self, codes: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (maps, cells) with their frame, flat, and where the places (maps, num) are in it.

        The frame has the code after the last one of the codebook.
        """
        num_maps, num_places = len(codes), self.stride**2
        framed = codes.new_full((num_maps, num_places), self.prior.config.num_codes)
        framed[:, self.places] = codes
        first = torch.arange(num_maps, device=codes.device)[:, None] * num_places
        return framed.flatten(), (first + places).flatten()


class _Taps:
    """A causal convolution as one matrix product over the cells that it reads.

    Where sums are rounded there are two products, as the convolution has two parts.
    """

    def __init__(self, conv: CausalConv, stride: int) -> None:
        offsets, weights = _offsets(conv, stride), _weights(conv)
        self.product: Callable[[Tensor, Tensor, Tensor | None], Tensor]
        self.product, sizes = F.linear, [len(offsets)]
        if isinstance(conv.left, Rounded):
            num_left = conv.left.kernel_size[1]
            self.product, sizes = bfloat16.linear, [len(offsets) - num_left, num_left]
        biases = (conv.left.bias, None)[: len(sizes)][::-1]
        parts = offsets.split(sizes), weights.split(sizes, 1), biases
        self.parts = [(at, some.flatten(1), bias) for at, some, bias in zip(*parts, strict=True)]

    def __call__(self, grid: Tensor, at: Tensor) -> Tensor:
        """Features (cells, out) at places of a flat grid (places, channels)."""
        first, *others = (self._sum(grid, at, *part) for part in self.parts)
        return first.float() + others[0].float() if others else first

    def _sum(
        self, grid: Tensor, at: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        seen = grid.index_select(0, (at[:, None] + offsets).flatten())
        return self.product(seen.view(len(at), -1), weight, bias)


class _CodeTaps:
    """The input layer: embedding and convolution as a sum of one row of a table for each tap.

    A tap sees one of few codes, so its product with each code's embedding is computed once.
    """

    def __init__(self, prior: PixelSNAIL, stride: int) -> None:
        self.offsets = _offsets(prior.input, stride)
        # One more row than there are codes: the frame's code, whose embedding is zero.
        embedding = F.pad(prior.embedding.weight, (0, 0, 0, 1))
        weights = _weights(prior.input).permute(1, 2, 0)
        self.table = (embedding @ weights).flatten(0, 1)
        self.rows = torch.arange(len(weights), device=embedding.device) * len(embedding)
        self.bias = cast(Tensor, prior.input.left.bias)

    def __call__(self, grid: Tensor, at: Tensor) -> Tensor:
        """Features (cells, out) at places of a flat grid of codes (places,)."""
        rows = grid[at[:, None] + self.offsets] + self.rows
        return F.embedding_bag(rows, self.table, mode="sum") + self.bias


class _Attention:
    """An attention block over cells whose channels lie together."""

    def __init__(self, block: CausalAttention, background: Tensor) -> None:
        self.num_heads = block.num_heads
        weight, width = block.project.weight.flatten(1), block.skip.in_channels
        self.rounded = block.project if isinstance(block.project, Rounded) else None
        self.project = weight[:, :width].T.contiguous()
        # The position of a cell is the same in every map, and so is its share in the projections.
        # It is no sum that may be rounded by itself.
        self.places = (
            background
            if self.rounded
            else F.linear(background, weight[:, width:], block.project.bias)
        )
        self.skip, self.attended, self.second = block.skip, block.attended, block.second

    def heads(
        self, x: Tensor, cells: Tensor | slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of cells (maps, num, width): (maps, heads, num, channels)."""
        maps, num, _ = x.shape
        if self.rounded:
            places = self.places[cells].expand(maps, num, -1)
            split = self.rounded.on_cells(torch.cat([x, places], -1))
        else:
            split = _sum_and_product(self.places[cells], x, self.project)
        split = split.view(maps, num, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = split.contiguous().unbind()
        return query, key, value

    def merge(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add the attention's result (maps, heads, num, channels) to its input (cells, width)."""
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        hidden = _pointwise(self.skip, F.elu(x)) + _pointwise(self.attended, F.elu(mixed))
        return x + F.glu(_pointwise(self.second, F.elu_(hidden)), 1)


class _Output:
    """The output layers, with the bias of each place."""

    def __init__(self, prior: PixelSNAIL) -> None:
        *self.layers, last = prior.output
        assert isinstance(last, nn.Conv2d)
        self.weight = last.weight.flatten(1).T
        bias = cast(Tensor, last.bias).expand(prior.config.latent_size**2, -1)
        if prior.place_bias is not None:
            bias = bias + prior.place_bias.flatten(1).T
        self.bias = bias.contiguous()

    def __call__(self, x: Tensor, cells: Tensor | slice) -> Tensor:
        """Logits (maps, num, codes) of cells (maps, num, width)."""
        for layer in self.layers:
            x = _pointwise(layer, x) if isinstance(layer, nn.Conv2d) else layer(x)
        return _sum_and_product(self.bias[cells], x, self.weight)


def _offsets(conv: CausalConv, stride: int) -> Tensor:
    """The cells that the convolution reads, as distances from its own in a flat grid."""
    reach = conv.reach
    above = [(row, col) for row in range(-reach, 0) for col in range(1 - reach, reach)]
    left = [(0, col) for col in range(-reach, 0 if conv.strict else 1)]
    offsets = [row * stride + col for row, col in above + left]
    return torch.tensor(offsets, device=conv.left.weight.device)


def _weights(conv: CausalConv) -> Tensor:
    """The weights (out, taps, channels) of the cells at the offsets."""
    parts = [each.weight.flatten(2).transpose(1, 2) for each in (conv.above, conv.left)]
    return torch.cat(parts, 1)


def _pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a 1x1 convolution to cells (..., channels)."""
    assert isinstance(conv, nn.Conv2d)
    if isinstance(conv, Rounded):
        return conv.on_cells(x)
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def _sum_and_product(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """``bias`` (num, out), or of each map, plus x (maps, num, channels) @ weight."""
    return torch.baddbmm(bias, x, weight.expand(len(x), -1, -1))
