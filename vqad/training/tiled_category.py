"""The training of a detector with tiles: its networks learn from tiles of the images.

Whole images decide what is held out, what is a copy, and the kind of the product, so they are what
a training without tiles would see. The networks see tiles alone.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch

from vqad.detector import Detector
from vqad.images import decoding
from vqad.images.decoding import WholeImage
from vqad.images.headers import ImageError
from vqad.images.listing import Listed
from vqad.images.placement import Size
from vqad.images.roi import RegionOfInterest
from vqad.images.tensors import to_tensor
from vqad.images.tiles import Tiling
from vqad.storage import files
from vqad.storage.errors import FetchError
from vqad.training import dataset, near_copies
from vqad.training.calibration import Calibration
from vqad.training.category import Training
from vqad.training.dataset import Examples
from vqad.training.learned_tiles import drawing_of, num_rows_of_each, rows, rows_of, wholes
from vqad.training.local_statistics import MOST_IMAGES, group_names
from vqad.training.minimum_area import map_pixel, map_shape, minimum_area
from vqad.training.networks import some_of
from vqad.training.options import TrainOptions
from vqad.training.tiled_calibration import TiledCalibration
from vqad.training.tiled_form import TiledImages

_MOST_WATCHED: Final = 64  # held-out tiles that are looked at after each interval of a fit; a guess


class TiledTraining(Training):
    """The training of one category's detector, which takes images by tiles."""

    def __init__(
        self,
        names: Sequence[str],
        pixels: np.ndarray,
        options: TrainOptions,
        *,
        bits: int = 16,
        device: torch.device | str = "cpu",
        reviewed: Collection[str] = (),
        sizes_px: Sequence[Size] = (),
        roi: RegionOfInterest | None = None,
        read: Callable[[str], WholeImage] | None = None,
    ) -> None:
        """``pixels`` are (num, 1 + tiles, size, size, 3), as `learned_tiles` decodes them.

        They were filled outside of ``roi``. ``read`` reads a whole image by its name; without it,
        from storage.
        """
        super().__init__(
            names,
            wholes(pixels),
            options,
            bits=bits,
            device=device,
            reviewed=reviewed,
            sizes_px=sizes_px,
        )
        self.pixels = pixels
        self.roi = roi
        self.read = read or read_whole
        held = self._rows_of(self.held_out_names)
        others = self._rows_of(self.learned_names)
        self.held_out = to_tensor(rows(pixels)[held]).to(device)
        self.watched = self.held_out[:: max(1, len(self.held_out) // _MOST_WATCHED)]
        self.learned_from = some_of(rows(pixels), others, device)

    @property
    def _tiling(self) -> Tiling:
        tiling = self.options.tiling
        assert tiling is not None
        return tiling

    def _rows_of(self, names: Sequence[str]) -> np.ndarray:
        position = {name: at for at, name in enumerate(self.names)}
        return rows_of(self.pixels, [position[name] for name in names])

    def calibration(self) -> Calibration:
        """That of whole images."""
        groups = group_names(self.names, self.options.heldout_group, copies=self.copies)
        images = tiled_images(
            self.pixels,
            self._tiling,
            self.roi,
            dict(zip(self.names, groups, strict=True)),
            held_out=self.held_out_names,
            learned=self.learned_names,
            unscored=self.reviewed,
            seed=self.options.seed,
            read=self.read,
        )
        return TiledCalibration(
            vqvae=self.vqvae,
            prior=self.prior,
            held_out=self.watched,
            options=self.options,
            minimum_area=self.minimum_area,
            bits=self.bits,
            form=self.form,
            images=images,
        )


def training_of(
    found: Examples,
    options: TrainOptions,
    *,
    device: torch.device | str = "cpu",
    reviewed: Collection[str] = (),
) -> Training:
    """The training of images as they were read, by tiles or not."""
    common: dict[str, Any] = {"bits": found.bits, "device": device, "reviewed": reviewed}
    if options.tiling is not None:
        roi = found.geometry.roi if found.geometry else None
        return TiledTraining(
            found.names, found.pixels, options, sizes_px=found.sizes_px, roi=roi, **common
        )
    return Training(
        found.names,
        found.pixels,
        options,
        geometry=found.geometry,
        sizes_px=found.sizes_px,
        **common,
    )


def tiled_images(
    pixels: np.ndarray,
    tiling: Tiling,
    roi: RegionOfInterest | None,
    group_of: Mapping[str, str],
    *,
    held_out: Sequence[str],
    learned: Sequence[str],
    unscored: Collection[str],
    seed: int,
    read: Callable[[str], WholeImage],
) -> TiledImages:
    """What a calibration needs; ``group_of`` has the images in the order of ``pixels``."""
    position = {name: at for at, name in enumerate(group_of)}
    each = num_rows_of_each(pixels)
    of_learned = rows_of(pixels, [position[name] for name in learned])
    # Some tiles of many images say more than all tiles of a few.
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(of_learned))[:MOST_IMAGES])
    scored = [name for name in learned if name not in unscored]
    return TiledImages(
        tiling=tiling,
        roi=roi,
        read=read,
        held_out=list(held_out),
        learned=[scored[at] for at in rng.permutation(len(scored))],
        tiles=rows(pixels)[of_learned[some]],
        groups=[group_of[learned[at // each]] for at in some],
        group_of={name: group_of[name] for name in learned},
        held_out_tiles=to_tensor(
            rows(pixels)[rows_of(pixels, [position[name] for name in held_out])]
        ),
    )


def tiled_calibration(
    old: Detector, options: TrainOptions, held_out: list[Listed], others: list[Listed]
) -> Calibration:
    """A new calibration of a detector with tiles. Raises ValueError, as for a missing image."""
    tiling, size_px = old.settings.tiling, old.settings.vqvae.image_size_px
    roi = old.roi
    assert tiling is not None
    rng = np.random.default_rng(options.seed)
    some = [others[at] for at in np.sort(rng.permutation(len(others))[:MOST_IMAGES])]
    num_images = len(held_out) + len(others)
    drawing = drawing_of(options, size_px=size_px, num_images=num_images)
    kept, found = (
        dataset.read(each, size_px=size_px, roi=roi, bits=old.settings.bits, drawing=drawing)
        for each in (held_out, some)
    )
    if kept.unreadable:
        raise ValueError(f"a held-out image can't be read any more: {kept.unreadable[0]}")
    pixels, names = decoding.stack([*kept.pixels, *found.pixels]), [*kept.names, *found.names]
    copies = near_copies.copies(wholes(pixels))
    groups = group_names(names, options.heldout_group, copies=copies)
    images = tiled_images(
        pixels,
        tiling,
        roi,
        dict(zip(names, groups, strict=True)),
        held_out=kept.names,
        learned=found.names,
        unscored=(),
        seed=options.seed,
        read=read_whole,
    )
    pixel = map_pixel(kept.sizes_px, map_shape(options, size_px))
    return TiledCalibration(
        vqvae=old.fitted.vqvae,
        prior=old.fitted.prior,
        held_out=images.held_out_tiles.to(old.device),
        options=options,
        minimum_area=minimum_area(options, pixel, default_px=old.vqvae.config.cell_area_px),
        bits=old.settings.bits,
        form=options.form or old.settings.form,
        images=images,
    )


def read_whole(name: str) -> WholeImage:
    """An image in its own size. Raises ValueError if it can't be read any more."""
    try:
        return decoding.decode_whole(files.read_bytes(name, max_bytes=decoding.MAX_BYTES))
    except (FetchError, ImageError) as error:
        raise ValueError(f"{name} can't be read any more: {error}") from error
