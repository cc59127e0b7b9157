"""The calibration of a detector with tiles: its threshold is of whole images."""

from dataclasses import dataclass, replace
from typing import Any

from vqad.detection.area_score import UNIT
from vqad.detection.fit_record import FitRecord
from vqad.detector import Detector
from vqad.training import tiled_form
from vqad.training.calibration import Calibration
from vqad.training.presets import preset_of
from vqad.training.tiled_form import TiledImages


@dataclass(frozen=True, kw_only=True)
class TiledCalibration(Calibration):
    """As a calibration of whole images; what the networks held out are some of their tiles."""

    images: TiledImages

    def _of_maps(self, eta: float, fitted: FitRecord) -> Detector:
        """In the paper's form: the largest score of the held-out images."""
        networks = self._detector(eta, form="plain")
        settings = replace(networks.settings, **self._of_tiles())
        blank = Detector(self.vqvae, self.prior, settings, roi=self.images.roi)
        scores, num_changed = tiled_form.plain_scores(self.images, blank)
        threshold, record = self._by_held_out(scores, num_changed, fitted)
        return blank.with_settings(threshold=threshold, found=record)

    def _of_form_full(self, eta: float, fitted: FitRecord) -> Detector:
        """Witnesses by the held-out images, the threshold by all normal images looked at."""
        joined = self._detector(eta, form="joined").with_settings(turned_reading=False)
        segmenter = preset_of(self.options.preset).segmenter
        full = tiled_form.fit(self.images, joined, self.options, segmenter=segmenter)
        record = self._by_cross_fitting(
            full.scores,
            full.threshold,
            fitted,
            of_held_out=full.scores[: len(self.images.held_out)],
            num_changed=full.num_changed,
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
            found=record,
            **self._of_tiles(),
        )
        return Detector(
            self.vqvae,
            self.prior,
            settings,
            local_statistics=full.statistics,
            segmenter=full.segmenter,
            roi=self.images.roi,
        )

    def _of_tiles(self) -> dict[str, Any]:
        """The settings of the whole images. Those of the networks are of a tile alone."""
        roi = self.images.roi
        return {"tiling": self.images.tiling, "roi_source_px": roi and roi.source_px}
