"""From one category's normal images to its detector: fit, encode, fit, calibrate.

The order is the paper's (section 3): first the VQ-VAE, then the prior over its codes, then eta and
the threshold from the held-out images. A training is a sequence of records; between any two of
them its state can be saved, and loaded to resume.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqad.detection.fit_record import FitRecord
from vqad.detection.surprisal import Form
from vqad.detector import Detector
from vqad.images.alignment import Alignment
from vqad.images.placement import Cropped, Geometry, ImageForm, Size
from vqad.images.tensors import to_tensor
from vqad.model.bfloat16 import in_precision
from vqad.model.pixelsnail import PixelSNAIL
from vqad.model.vqvae import VQVAE
from vqad.training import holdout, near_copies, normal_statistics
from vqad.training.alignment import AlignedRows, find_alignment
from vqad.training.calibration import Calibration
from vqad.training.found_kind import find_kind
from vqad.training.full_form import NormalImages
from vqad.training.local_statistics import among_others
from vqad.training.loop import Fitting, Record
from vqad.training.minimum_area import map_pixel, map_shape, minimum_area
from vqad.training.networks import (
    OnDisk,
    Pixels,
    code_maps,
    codes_in_use,
    encode,
    fit_prior,
    fit_vqvae,
    some_of,
    vqvae_error,
)
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS

FEWEST_IMAGES = 10  # a guess; with fewer, a tenth is less than one image
MOST_REVIEWED = 150  # confirmed false alarms among 300 images of local statistics; a guess


class Training:
    """The training of one category's detector."""

    def __init__(
        self,
        names: Sequence[str],
        pixels: np.ndarray,
        options: TrainOptions,
        *,
        bits: int = 16,
        device: torch.device | str = "cpu",
        reviewed: Collection[str] = (),
        geometry: Geometry | None = None,
        sizes_px: Sequence[Size] = (),
    ) -> None:
        """``pixels`` is (num, size, size, 3), uint8 or uint16, named by ``names``.

        They were read from files whose 16-bit values have ``bits`` significant bits. ``reviewed``
        are the names of confirmed false alarms. They are learned from and never held out, and set
        no threshold: each is one of the most unusual images of thousands. ``geometry`` says how
        images whose files have the widths and heights ``sizes_px`` lie in the pixels; without it
        they are square.
        """
        self.reviewed = frozenset(reviewed)
        self.options = options
        self.bits = bits
        self.preset = PRESETS[options.preset]
        self.geometry = geometry or Geometry(
            form=ImageForm(size_px=self.preset.vqvae.image_size_px)
        )
        self.sources = dict(zip(names, sizes_px, strict=True)) if sizes_px else None
        of_tiles = map_shape(options, self.preset.vqvae.image_size_px)
        shape_of = self.geometry.form.shape_of if options.tiling is None else of_tiles
        self.minimum_area = minimum_area(
            options,
            map_pixel(sizes_px, shape_of),
            default_px=self.preset.vqvae.cell_area_px,
        )
        held = self._held_out(names, pixels)
        # None if it is given. It follows from data and seed, so a restart finds the same kind.
        placements = self.geometry.placements(len(names), sizes_px or None)
        self.found_kind = (
            None
            if options.kind
            else find_kind(names, Cropped(pixels=pixels, placements=placements), seed=options.seed)
        )
        if self.found_kind:
            self.options = replace(options, kind=self.found_kind.kind)
        self.held_out_names = [names[at] for at in held]
        others = np.setdiff1d(np.arange(len(names)), held)
        self.learned_names = [names[at] for at in others]
        self.found_alignment = find_alignment(
            names, pixels, self.options, form=self.form, placements=placements
        )
        self.not_aligned: tuple[Tensor, Pixels] | None = None
        rows: np.ndarray | AlignedRows = pixels
        if self.alignment is not None:
            self.not_aligned = (
                to_tensor(pixels[held]),
                OnDisk(pixels, others, torch.device("cpu")),
            )
            rows = AlignedRows(self.alignment, pixels)
            # In one pose nothing may be turned or mirrored any more.
            self.options = replace(self.options, kind="object")
        self.held_out = to_tensor(rows[held]).to(device)
        self.watched = self.held_out  # after each interval of a fit
        self.learned_from: Pixels = some_of(rows, others, device)
        # One seed for the first weights of both networks; the loops have generators of their own.
        torch.manual_seed(options.seed)
        self.vqvae = VQVAE(self.preset.vqvae).to(device)
        self.prior = PixelSNAIL(self.preset.prior).to(device)
        self.fittings = {
            "vqvae": Fitting.begin(self.vqvae, self.preset.fit_vqvae),
            "prior": Fitting.begin(self.prior, self.preset.fit_prior),
        }
        self.codes_used, self.held_out_error = 0, float("nan")
        self.history: list[Record] = []

    def _held_out(self, names: Sequence[str], pixels: np.ndarray) -> list[int]:
        """Positions of the held-out images. Raises ValueError if there are too few images."""
        learned = [at for at, name in enumerate(names) if name in self.reviewed]
        num = len(names) - len(learned)
        if num < FEWEST_IMAGES:
            raise ValueError(
                f"{num} images to learn from: at least {FEWEST_IMAGES} are needed, of which "
                "a tenth is held out; add good images, or leave the category out"
            )
        self.names = list(names)
        self.copies = near_copies.copies(pixels)  # groups of positions among the names
        return holdout.hold_out(
            names,
            seed=self.options.seed,
            group=self.options.heldout_group,
            copies=self.copies,
            learned=learned,
        )

    @property
    def alignment(self) -> Alignment | None:
        """By which all images are turned into one pose; None if they are not."""
        return self.found_alignment.alignment if self.found_alignment else None

    def records(self) -> Iterator[Record]:
        """Fit both networks from their present state. Raises CollapseError or DivergenceError."""
        for record in self._stages():
            self.history.append(record)
            yield record

    def seconds_left(self, record: Record) -> float:
        """Seconds until both networks are fitted, if every image takes as long as the last ones."""
        num_steps = record.num_steps - record.step
        if record.stage == "prior":
            return num_steps * self.preset.fit_prior.batch_size / record.images_per_s
        prior = self.preset.fit_prior
        num_images = num_steps * self.preset.fit_vqvae.batch_size
        return (num_images + prior.num_steps * prior.batch_size) / record.images_per_s

    def _stages(self) -> Iterator[Record]:
        kind, seed = self.options.known_kind, self.options.seed
        budget = self.preset.fit_prior
        yield from fit_vqvae(
            self.fittings["vqvae"],
            self.learned_from,
            self.watched,
            kind=kind,
            options=self.preset.fit_vqvae,
            seed=seed,
        )
        # Measured here, because all workers take part; only the first worker calibrates.
        self.held_out_error = vqvae_error(self.vqvae, self.held_out)
        num_variations = budget.variations_per_image
        maps = code_maps(
            self.vqvae,
            self.learned_from,
            kind=kind,
            num_variations=num_variations,
            seed=seed,
            jitter=budget.jitter,
        )
        self.codes_used = codes_in_use(maps, self.preset.vqvae.num_codes)
        held_out = encode(self.vqvae, self.watched)
        yield from fit_prior(self.fittings["prior"], maps, held_out, options=budget, seed=seed)

    def detector(self) -> Detector:
        """Calibrate the fitted networks on the held-out images; only one worker calls this."""
        vqvae = in_precision(self.vqvae, self.options.known_precision)
        normal = normal_statistics.measure(
            vqvae,
            self.held_out,
            self.learned_from,
            seed=self.options.seed,
            not_aligned=self.not_aligned,
        )
        return self.calibration().detector(replace(self.record(), normal=normal))

    def calibration(self) -> Calibration:
        """The calibration on the held-out images."""
        return Calibration(
            vqvae=self.vqvae,
            prior=self.prior,
            held_out=self.held_out,
            options=self.options,
            minimum_area=self.minimum_area,
            bits=self.bits,
            form=self.form,
            normal=self._normal() if self.form == "full" else None,
            geometry=self.geometry,
            sources=self._sources_of(self.held_out_names),
            alignment=self.alignment,
        )

    def _sources_of(self, names: Sequence[str]) -> list[Size] | None:
        return None if self.sources is None else [self.sources[name] for name in names]

    @property
    def form(self) -> Form:
        """The form of the map: the one asked for, or the preset's."""
        return self.options.form or self.preset.form

    def _normal(self) -> NormalImages:
        """All held-out images, some of the others, and at last those that set no threshold."""
        is_reviewed = np.array([name in self.reviewed for name in self.learned_names])
        others, reviewed = np.flatnonzero(~is_reviewed), np.flatnonzero(is_reviewed)
        some = others[among_others(len(others), len(self.held_out), seed=self.options.seed)]
        reviewed = reviewed[:MOST_REVIEWED]
        some = np.concatenate([some, reviewed])
        names = [*self.held_out_names, *(self.learned_names[at] for at in some)]
        position = {name: at for at, name in enumerate(names)}
        copies = [[self.names[at] for at in group] for group in self.copies]
        return NormalImages.of(
            self.held_out,
            self.learned_from[torch.from_numpy(some)],
            names=names,
            copies=[[position[name] for name in group if name in position] for group in copies],
            num_reviewed=len(reviewed),
            sources=self._sources_of(names),
        )

    def record(self) -> FitRecord:
        """The options, the held-out images, and the results of both fits."""
        found = self.found_alignment
        return FitRecord(
            options=asdict(self.options),
            kind_found_by="normal images" if self.found_kind else "given",
            num_images=len(self.names),
            held_out=self.held_out_names,
            reviewed=[name for name in self.learned_names if name in self.reviewed],
            held_out_error=self.held_out_error,
            held_out_nats=self.fittings["prior"].best,
            codes_used=self.codes_used,
            num_copies=self.num_copies,
            unexplained=found.unexplained if found else None,
            unexplained_aligned=found.unexplained_aligned if found else None,
            steps={stage: fitting.step for stage, fitting in self.fittings.items()},
            fit_vqvae=asdict(self.preset.fit_vqvae),
            fit_prior=asdict(self.preset.fit_prior),
        )

    def warnings(self) -> list[str]:
        """Warnings for people about this category's calibration."""
        category, warnings = self.options.category, []
        if self.num_copies:
            warnings.append(
                f"{category}: {self.num_copies} images are copies of others, equal or nearly; they "
                "stay on one side of the held-out split and count once"
            )
        if len(self.held_out_names) < holdout.FEWEST_HELD_OUT:
            warnings.append(
                f"{category}: only {len(self.held_out_names)} held-out images set the threshold; "
                f"at least {holdout.FEWEST_HELD_OUT} are advisable, from ten times as many images"
            )
        return warnings

    @property
    def num_copies(self) -> int:
        """Number of images that are copies of an earlier one."""
        return sum(len(each) - 1 for each in self.copies)

    def state(self) -> dict[str, Tensor | Any]:
        """Everything that a restart needs, loadable with ``weights_only=True``."""
        stages = {stage: fitting.state() for stage, fitting in self.fittings.items()}
        return stages | {"history": [each.as_dict() for each in self.history]}

    def load(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        for stage, fitting in self.fittings.items():
            fitting.load(state[stage])
        self.history = [Record(**each) for each in state["history"]]
