"""Eta, threshold and usual surprisal of fitted networks, from the held-out images (4.2, 4.3.3).

The end of a training and a recalibration both come here, so that they follow one rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vqad.detection import calibrate, surprisal
from vqad.detection.area_score import UNIT
from vqad.detection.fit_record import FitRecord
from vqad.detection.settings import Settings
from vqad.detection.surprisal import Form, Usual
from vqad.detector import Detector
from vqad.images import decoding
from vqad.images.alignment import Alignment
from vqad.images.placement import Geometry, ImageForm, Size
from vqad.images.tensors import to_images
from vqad.model.pixelsnail import PixelSNAIL
from vqad.model.resample import ResampleOptions
from vqad.model.vqvae import VQVAE
from vqad.training import eta_search, full_form
from vqad.training.full_form import NormalImages
from vqad.training.minimum_area import MinimumArea
from vqad.training.options import TrainOptions
from vqad.training.presets import preset_of

# Where the scores of a threshold come from, as recorded.
HELD_OUT: Final = "held-out images"
CROSS_FITTED: Final = "cross-fitted images"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Fitted networks of one category, and everything that turns them into a detector."""

    vqvae: VQVAE
    prior: PixelSNAIL
    # Decoded pixels (num, size, size, 3), on the networks' device; aligned if the product is.
    held_out: Tensor
    options: TrainOptions
    minimum_area: MinimumArea
    form: Form
    bits: int  # significant bits of values in 16-bit files
    normal: NormalImages | None = None  # all of them; of the form full
    geometry: Geometry | None = None  # of the source images; None for square ones
    sources: Sequence[Size] | None = None  # width and height of the held-out images
    alignment: Alignment | None = None  # by which all pixels here are aligned

    def detector(self, fitted: FitRecord) -> Detector:
        """Calibrate, and return the detector; its record is ``fitted`` and the calibration's."""
        eta, auroc = self._eta()
        pixel = self.minimum_area.pixel
        fitted = replace(
            fitted,
            map_pixel_area_px=pixel.area_px if pixel else None,
            eta_found_by="given" if auroc is None else "painted rectangles",
            eta_pixel_auroc=auroc,
        )
        found = (self._of_form_full if self.form == "full" else self._of_maps)(eta, fitted)
        if self.alignment is None:
            return found
        return Detector(
            settings=replace(found.settings, aligned=True),
            **(vars(found.fitted) | {"alignment": self.alignment}),
        )

    def _of_maps(self, eta: float, fitted: FitRecord) -> Detector:
        """In the forms plain and joined: by the scores of the held-out images' maps."""
        blank = self._detector(eta, form=self.form)
        placements = blank.geometry.placements(len(self.held_out), self.sources)
        differences, surprisals = full_form.inspected_in_batches(blank, self.held_out, placements)
        usual = None
        if self.form == "joined":
            usual, maps = calibrate.usual_of(
                differences,
                surprisals,
                self.options.known_kind,
                eta=eta,
                score=blank.score_of,
                placements=placements,
            )
        else:
            maps = [its.map_of(each) for its, each in zip(placements, differences, strict=True)]
        scores = [blank.score_of(each) for each in maps]
        num_changed = sum(int(each.any()) for each in differences)
        threshold, record = self._by_held_out(scores, num_changed, fitted)
        return self._detector(eta, form=self.form, threshold=threshold, usual=usual, found=record)

    def _by_held_out(
        self, scores: list[float], num_changed: int, fitted: FitRecord
    ) -> tuple[float, FitRecord]:
        """The threshold by the scores of the held-out images, and the record with both."""
        quantile = self.options.threshold_quantile
        threshold = calibrate.threshold(scores, quantile=quantile)
        return threshold, replace(
            fitted,
            held_out_scores=scores,
            night_scores=[],
            threshold=calibrate.record_of(
                scores, threshold, source=HELD_OUT, quantile=quantile, default="largest"
            ),
            held_out_maps_not_zero=num_changed,
        )

    def _by_cross_fitting(
        self,
        scores: list[float],
        threshold: float,
        fitted: FitRecord,
        *,
        of_held_out: list[float],
        num_changed: int,
    ) -> FitRecord:
        """The record of a threshold by the scores of all normal images looked at."""
        return replace(
            fitted,
            held_out_scores=of_held_out,
            cross_fitted_scores=scores,
            night_scores=[],
            threshold=calibrate.record_of(
                scores,
                threshold,
                source=CROSS_FITTED,
                quantile=self.options.threshold_quantile,
                default="conformal",
            ),
            held_out_maps_not_zero=num_changed,
        )

    def _of_form_full(self, eta: float, fitted: FitRecord) -> Detector:
        """Witnesses by the held-out images, the threshold by all normal images looked at."""
        assert self.normal is not None
        joined = self._detector(eta, form="joined").with_settings(turned_reading=False)
        size_px, area_px = joined.settings.vqvae.image_size_px, joined.settings.minimum_area_px
        preset = preset_of(self.options.preset)
        full = full_form.fit(
            self.normal,
            joined,
            self.options,
            segmenter=preset.segmenter,
            num_copies=preset.num_copies,
            aligned=self.alignment is not None,
        )
        rule, threshold, scores = full.rule(
            full.witnesses, self.options, size_px=size_px, minimum_area_px=area_px
        )
        of_held_out = [scores[at] for at in full.held_out]
        record = self._by_cross_fitting(
            scores, threshold, fitted, of_held_out=of_held_out, num_changed=full.num_changed
        )
        settings = replace(
            joined.settings,
            form="full",
            unit=UNIT,
            threshold=threshold,
            usual=full.usual,
            witnesses=full.witnesses,
            local_statistics=full.statistics.config,
            segmenter=full.segmenter.config if full.segmenter else None,
            area_rule=rule,
            found=record,
        )
        return Detector(
            self.vqvae,
            self.prior,
            settings,
            local_statistics=full.statistics,
            segmenter=full.segmenter,
            roi=joined.geometry.roi,
        )

    def _eta(self) -> tuple[float, float | None]:
        """The eta that was asked for; or the best one, with its AUROC on painted rectangles."""
        if self.options.eta != "auto":
            return self.options.eta, None
        placements = self._geometry.placements(len(self.held_out), self.sources)
        normal = to_images(self.held_out).movedim(1, -1).cpu().numpy()
        whole = [its.cropped(each) for its, each in zip(placements, normal, strict=True)]
        pictures, masks = eta_search.painted(whole, seed=self.options.seed)
        squares = [its.in_square(each) for its, each in zip(placements, pictures, strict=True)]
        painted = torch.from_numpy(np.stack(squares)).movedim(-1, 1)
        counted = [slice(None) if its.inside is None else its.inside for its in placements]
        masks = [mask[its].ravel() for mask, its in zip(masks, counted, strict=True)]

        def values_at(eta: float) -> np.ndarray:
            found, size = [], full_form.BATCH_SIZE
            detector = self._detector(eta, form="plain")
            for at in range(0, len(painted), size):
                sources = self.sources and self.sources[at : at + size]
                found += detector.inspect(painted[at : at + size], sources).anomaly_maps
            return np.concatenate(
                [each[its].ravel() for each, its in zip(found, counted, strict=True)]
            )

        return eta_search.search_eta(values_at, np.concatenate(masks))

    @property
    def _geometry(self) -> Geometry:
        form = ImageForm(size_px=self.vqvae.config.image_size_px)
        return self.geometry or Geometry(form=form)

    def _detector(
        self,
        eta: float,
        *,
        form: Form,
        threshold: float = 0.0,
        usual: Usual | None = None,
        found: FitRecord | None = None,
    ) -> Detector:
        """A detector of these networks; before calibration, with a usual surprisal of nothing."""
        vqvae = self.vqvae.config
        if form == "joined":
            usual = usual or surprisal.unknown(vqvae.latent_size)
        settings = Settings(
            category=self.options.category,
            kind=self.options.known_kind,
            vqvae=vqvae,
            prior=self.prior.config,
            resample=ResampleOptions(eta=eta),
            threshold=threshold,
            minimum_area_px=self.minimum_area.area_px,
            px_per_mm=self.minimum_area.px_per_mm,
            form=form,
            usual=usual,
            bits=self.bits,
            resize=self._geometry.form.resize,
            preprocessing=decoding.preprocessing(self._geometry.form.resize),
            roi_source_px=self._geometry.form.roi_source_px,
            precision=self.options.known_precision,
            found=found or FitRecord(),
        )
        return Detector(self.vqvae, self.prior, settings, roi=self._geometry.roi)
