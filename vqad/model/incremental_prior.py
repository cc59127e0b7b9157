"""The prior with a key-value cache: a pass can be resumed at the first code that has changed.

The features of a cell depend only on the codes before it in raster order. So everything that a
pass computed stays valid up to the first code that changes. `begin` makes a pass over whole maps
and caches what later cells read of earlier ones: the inputs of the convolutions, and the keys and
values of the attention. `resume` computes a run of cells again, at a different place in every map,
and updates the cache. So a change costs only the cells after it that are asked for.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad.array_types import Codes, Logits
from vqad.model.pixelsnail import CausalAttention, CausalConv, GatedResidual, PixelSNAIL, gate


@dataclass(frozen=True)
class KeyValueCache:
    """The features of some maps that later cells read; see the module."""

    grids: list[Tensor]  # the input of each convolution, (maps, places, channels)
    keys: list[Tensor]  # of each attention block, (maps, heads, cells, channels of a head)
    values: list[Tensor]

    def of(self, maps: Tensor) -> "KeyValueCache":
        """The cache of some of the maps, by their positions."""
        return KeyValueCache(*([each[maps] for each in kind] for kind in vars(self).values()))


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
        # One more row than there are codes: a code for the padding, embedded as zeros.
        self.embedding = F.pad(prior.embedding.weight, (0, 0, 0, 1))
        self.background = prior.background[0].flatten(1).T
        self.input = _Taps(prior.input, self.stride)
        self.residuals = [
            (_Taps(each.first, self.stride), _Taps(each.second, self.stride))
            for each in cast("list[GatedResidual]", prior.residuals)
        ]
        self.attentions = cast("list[CausalAttention]", list(prior.attentions))

    def begin(self, codes: Codes) -> tuple[Logits, KeyValueCache]:
        """Make a pass over whole maps; returns the logits of every cell, and the cache."""
        cache = KeyValueCache([], [], [])
        x = self.prior.input(self.prior.embedding(codes).movedim(-1, 1))
        for residual, attention in zip(self.prior.residuals, self.attentions, strict=True):
            before = F.elu(x)
            between = F.elu(cast("GatedResidual", residual).first(before))
            x = x + gate(cast("GatedResidual", residual).second(between))
            query, key, value = attention.heads(x, self.prior.background)
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = attention.merge(x, mixed.transpose(2, 3).reshape(x.shape))
            cache.grids.extend(map(self._framed, (before, between)))
            cache.keys.append(key.contiguous())
            cache.values.append(value.contiguous())
        return self.prior.biased(self.prior.output(x)), cache

    def resume(self, cache: KeyValueCache, codes: Tensor, start: Tensor, width: int) -> Tensor:
        """Logits (maps, codes of the codebook, width) of ``width`` cells from ``start`` (maps,) on.

        ``codes`` (maps, cells) are in raster order. The cache has to be valid for these codes
        before ``start``, and is then valid up to the end of the run. If a run extends beyond the
        end of its map, the last cell is repeated.
        """
        num_maps, num_cells = codes.shape
        cells = (start[:, None] + torch.arange(width, device=codes.device)).clamp(max=num_cells - 1)
        maps = torch.arange(num_maps, device=codes.device)[:, None]
        num_places = self.stride**2
        at = (maps * num_places + self.places[cells]).flatten()
        framed = codes.new_full((num_maps, num_places), len(self.embedding) - 1)
        framed[:, self.places] = codes
        # A cell attends to itself and to all cells before it. Later cells have to be masked: the
        # cache still has their keys of an earlier pass, under other codes.
        visible = cells[..., None] >= torch.arange(int(cells.max()) + 1, device=codes.device)
        background = self.background[cells.flatten()]
        x = self.input.of_codes(framed.flatten(), self.embedding, at)
        for stage, (first, second) in enumerate(self.residuals):
            before, between = (
                each.view(-1, each.shape[-1]) for each in cache.grids[2 * stage :][:2]
            )
            # Written before it is read: the cells of a run read each other. The order within
            # the run does not matter, because a cell reads only inputs of this layer, which are
            # all there, and never outputs of it.
            before[at] = F.elu(x)
            between[at] = F.elu(first(before, at))
            x = x + F.glu(second(between, at), 1)
            x = self._attend(stage, cache, x, background, (maps, cells), visible)
        logits = _through(self.prior.output, x).view(num_maps, width, -1).transpose(1, 2)
        bias = self.prior.place_bias
        return logits if bias is None else logits + bias.flatten(1)[:, cells].transpose(0, 1)

    def _attend(
        self,
        stage: int,
        cache: KeyValueCache,
        x: Tensor,
        background: Tensor,
        at: tuple[Tensor, Tensor],
        visible: Tensor,
    ) -> Tensor:
        attention = self.attentions[stage]
        (maps, cells), seen = at, visible.shape[-1]
        split = _pointwise(attention.project, torch.cat([x, background], 1))
        query, key, value = split.view(*cells.shape, 3, attention.num_heads, -1).unbind(2)
        keys, values = cache.keys[stage], cache.values[stage]
        keys[maps, :, cells] = key
        values[maps, :, cells] = value
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            keys[:, :, :seen],
            values[:, :, :seen],
            attn_mask=visible[:, None],
        )
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        skipped = _pointwise(attention.skip, F.elu(x))
        hidden = F.elu(skipped + _pointwise(attention.attended, F.elu(mixed)))
        return x + F.glu(_pointwise(attention.second, hidden), 1)

    def _framed(self, features: Tensor) -> Tensor:
        batch, channels = features.shape[:2]
        framed = features.new_zeros(batch, self.stride**2, channels)
        framed[:, self.places] = features.flatten(2).transpose(1, 2)
        return framed


class _Taps:
    """A causal convolution as one matrix product over the cells that it reads."""

    def __init__(self, conv: CausalConv, stride: int) -> None:
        reach = conv.reach
        above = [(row, col) for row in range(-reach, 0) for col in range(1 - reach, reach)]
        left = [(0, col) for col in range(-reach, 0 if conv.strict else 1)]
        offsets = [row * stride + col for row, col in above + left]
        self.offsets = torch.tensor(offsets, device=conv.left.weight.device)
        parts = [each.weight.flatten(2).transpose(1, 2) for each in (conv.above, conv.left)]
        self.weight = torch.cat(parts, 1).flatten(1)
        self.bias = conv.left.bias

    def __call__(self, grid: Tensor, at: Tensor) -> Tensor:
        """Features (cells, out) at places of a flat grid (places, channels)."""
        return self._apply(grid.index_select(0, self._around(at)), len(at))

    def of_codes(self, grid: Tensor, embedding: Tensor, at: Tensor) -> Tensor:
        """The same for a grid of codes (places,), which are embedded first."""
        return self._apply(embedding.index_select(0, grid[self._around(at)]), len(at))

    def _around(self, at: Tensor) -> Tensor:
        return (at[:, None] + self.offsets).flatten()

    def _apply(self, seen: Tensor, num_cells: int) -> Tensor:
        return F.linear(seen.view(num_cells, -1), self.weight, self.bias)


def _pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a 1x1 convolution to cells (cells, channels)."""
    assert isinstance(conv, nn.Conv2d)
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def _through(layers: nn.Sequential, x: Tensor) -> Tensor:
    for layer in layers:
        x = _pointwise(layer, x) if isinstance(layer, nn.Conv2d) else layer(x)
    return x
