"""The calibration of a detector with tiles: its threshold is of whole images."""

from dataclasses import dataclass, replace

from vqad.detection import calibrate
from vqad.detection.area_score import UNIT
from vqad.detection.fit_record import FitRecord
from vqad.detector import Detector
from vqad.training import tiled_form
from vqad.training.calibration import CROSS_FITTED, HELD_OUT, Calibration
from vqad.training.presets import preset_of
from vqad.training.tiled_form import TiledImages


@dataclass(frozen=True, kw_only=True)
class TiledCalibration(Calibration):
    """As a calibration of whole images; what the networks held out are some of their tiles."""

    images: TiledImages

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
        return self._of_form_full(eta, fitted) if self.form == "full" else self._plain(eta, fitted)

    def _plain(self, eta: float, fitted: FitRecord) -> Detector:
        """In the paper's form: the largest score of the held-out images."""
        blank = self._detector(eta, form="plain").with_settings(tiling=self.images.tiling)
        scores, num_changed = tiled_form.plain_scores(self.images, blank)
        quantile = self.options.threshold_quantile
        threshold = calibrate.threshold(scores, quantile=quantile)
        record = replace(
            fitted,
            held_out_scores=scores,
            night_scores=[],
            threshold=calibrate.record_of(
                scores, threshold, source=HELD_OUT, quantile=quantile, default="largest"
            ),
            held_out_maps_not_zero=num_changed,
        )
        return blank.with_settings(threshold=threshold, found=record)

    def _of_form_full(self, eta: float, fitted: FitRecord) -> Detector:
        """Witnesses by the held-out images, the threshold by all normal images looked at."""
        joined = self._detector(eta, form="joined").with_settings(turned_reading=False)
        segmenter = preset_of(self.options.preset).segmenter
        full = tiled_form.fit(self.images, joined, self.options, segmenter=segmenter)
        record = replace(
            fitted,
            held_out_scores=full.scores[: len(self.images.held_out)],
            cross_fitted_scores=full.scores,
            night_scores=[],
            threshold=calibrate.record_of(
                full.scores,
                full.threshold,
                source=CROSS_FITTED,
                quantile=self.options.threshold_quantile,
                default="conformal",
            ),
            held_out_maps_not_zero=full.num_changed,
        )
        settings = replace(
            joined.settings,
            form="full",
            unit=UNIT,
            threshold=full.threshold,
            usual=full.usual,
            witnesses=full.witnesses,
            local_statistics=full.statistics.config,
            segmenter=full.segmenter.config if full.segmenter else None,
            area_rule=full.rule,
            tiling=self.images.tiling,
            found=record,
        )
        return Detector(
            self.vqvae,
            self.prior,
            settings,
            local_statistics=full.statistics,
            segmenter=full.segmenter,
        )
