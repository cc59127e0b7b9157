"""The detector of one category: VQ-VAE, prior, eta and threshold, which are saved as one.

    detector = Detector.load("models", "bottle")
    inspection = detector.inspect(images)          # (batch, 3, height, width), RGB in [0, 1]
    print(inspection.verdicts, inspection.scores)

On storage a detector is a folder of JSON and safetensors. Loading executes no code, and refuses
files that do not match the hashes and sizes in the detector's record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqad.array_types import AnomalyMap, Codes, Images, Likelihood, OwnMap
from vqad.detection import (
    anomaly_map,
    area_score,
    image_threads,
    saved_detector,
    score,
    stored_map,
    surprisal,
    witnesses,
)
from vqad.detection.evidence import Evidence, Inspection
from vqad.detection.local_statistics import Field, LocalStatistics
from vqad.detection.p_value import p_value
from vqad.detection.saved_detector import Parts
from vqad.detection.segmented import local_fields
from vqad.detection.settings import Settings
from vqad.detection.surprisal import Surprisal
from vqad.detection.weights import named_in_errors
from vqad.detection.whole_images import Whole, look_at
from vqad.detection.whole_scores import inspection_of
from vqad.images import tensors
from vqad.images.alignment import Alignment
from vqad.images.decoding import WholeImage
from vqad.images.placement import Geometry, Placement, Size, places_of
from vqad.images.roi import RegionOfInterest
from vqad.images.tiles import TileGrid
from vqad.model.bfloat16 import in_precision
from vqad.model.finite import check_finite
from vqad.model.incremental_prior import IncrementalPrior
from vqad.model.kinds import nth_symmetry
from vqad.model.pixelsnail import PixelSNAIL
from vqad.model.resample import Resampled, in_runs, likelihood_of
from vqad.model.segmenter import Segmenter
from vqad.model.vqvae import VQVAE


class Detector:
    """One category's fitted networks and settings."""

    def __init__(
        self,
        vqvae: VQVAE,
        prior: PixelSNAIL,
        settings: Settings,
        *,
        local_statistics: LocalStatistics | None = None,
        segmenter: Segmenter | None = None,
        roi: RegionOfInterest | None = None,
        alignment: Alignment | None = None,
        version: str = "",
    ) -> None:
        self.settings = settings
        self.local_statistics = local_statistics
        self.geometry = Geometry(form=settings.image_form, roi=roi)
        self.version = version
        if (roi and roi.source_px) != settings.roi_source_px:
            raise ValueError("the detector's settings and its region of interest do not agree")
        if settings.aligned != (alignment is not None):
            raise ValueError("the detector's settings and its alignment do not agree")
        if settings.form == "full" and local_statistics is None:
            raise ValueError("the full form needs fitted local statistics")
        if settings.form == "full" and settings.segmenter and segmenter is None:
            raise ValueError("the detector's settings name a segmenter: a fitted one is needed")
        for network in (vqvae, prior):
            network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The parts as they are saved; those below compute in the settings' number format.
        self.fitted = Parts(
            vqvae=vqvae,
            prior=prior,
            local_statistics=local_statistics,
            segmenter=segmenter and segmenter.eval().requires_grad_(False),
            roi=roi,
            alignment=alignment,
        )
        self._use_fitted()

    def _use_fitted(self) -> None:
        fitted, precision = self.fitted, self.settings.precision
        self.vqvae = in_precision(fitted.vqvae, precision)
        self.prior = in_precision(fitted.prior, precision)
        self.segmenter = fitted.segmenter and in_precision(fitted.segmenter, precision)
        self.__dict__.pop("incremental_prior", None)

    @property
    def roi(self) -> RegionOfInterest | None:
        """The part of the source images that counts; None if all of them does."""
        return self.fitted.roi

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.vqvae.codebook.vectors.device

    def to(self, device: torch.device | str) -> "Detector":
        """Move the parts; returns itself."""
        for part in self.fitted.by_file().values():
            part.to(device)
        if torch.device(device).type == "cuda":
            # By default convolutions there round to TF32, and other codes result than on a CPU: on
            # an H200, 3,510 of 43,008 codes of toothbrushes, and 7 in float32.
            torch.backends.cudnn.allow_tf32 = False
        self._use_fitted()
        return self

    @cached_property
    def incremental_prior(self) -> IncrementalPrior:
        """The prior in the form that resampling uses."""
        return IncrementalPrior(self.prior)

    def with_settings(self, **changes: Any) -> "Detector":
        """A detector with the same networks and other settings."""
        return Detector(settings=replace(self.settings, **changes), **vars(self.fitted))

    @torch.inference_mode()
    def inspect(self, batch: Images, sources: Sequence[Size] | None = None) -> Inspection:
        """Encode, resample, decode what changed, and judge images (batch, 3, size, size).

        ``sources`` are width and height of the source images, which a detector that keeps the
        aspect ratio needs; None are square ones. Maps cover the source images. Of a detector with
        tiles, each image is one tile: `inspect_whole` judges what is cut into tiles.
        The networks compute in the settings' number format, whatever formats the machine is fast
        in, and all else is computed in float32.
        Raises DetectorError if the networks compute numbers that are not finite.
        """
        with named_in_errors(self.settings.category, self.version):
            found = self.evidence(batch, self.placements(batch, sources))
            fields = self.witness_fields(found)
            scores, maps = self.judged(found, fields)
            for each in maps:
                check_finite("the anomaly map's values", torch.from_numpy(each))
        # Here, so that regions are those of the map as it is stored, at any later threshold too.
        maps = image_threads.of_each(
            lambda each, value: stored_map.as_stored(each, image_score=value), maps, scores
        )
        changed = tensors.counted(found.codes != found.restored_codes, found.placements)
        return Inspection(
            verdicts=[score.verdict(each, self.settings.threshold) for each in scores],
            scores=scores,
            p_values=[p_value(each, self.settings.normal_scores) for each in scores],
            shares=witnesses.shares_of(fields, self.settings.witnesses, found.placements)
            or [{} for _ in scores],
            codes_changed=changed.flatten(1).sum(1).tolist(),
            anomaly_maps=maps,
            codes=found.codes,
            restored_codes=found.restored_codes,
            placements=found.placements,
        )

    def placements(self, batch: Images, sources: Sequence[Size] | None = None) -> list[Placement]:
        """Where the source images of a batch lie in it, with the pose of what is aligned."""
        found = self.geometry.placements(len(batch), sources)
        alignment = self.fitted.alignment
        if alignment is None:
            return found
        poses = image_threads.of_each(alignment.pose, batch.movedim(1, -1).cpu().numpy())
        return [replace(its, pose=pose) for its, pose in zip(found, poses, strict=True)]

    def inspect_whole(
        self, image: WholeImage, grid: TileGrid | None = None, *, batch_size: int = 16
    ) -> tuple[Inspection, Whole]:
        """Judge one image by its tiles; those of the settings, or of another grid.

        At most ``batch_size`` tiles are inspected at once. Raises as `inspect` does, and ValueError
        for an image that is smaller than a tile.
        """
        with named_in_errors(self.settings.category, self.version):
            whole = look_at(self, image, grid, batch_size=batch_size)
            return inspection_of(whole, self.settings), whole

    @torch.inference_mode()
    def evidence(self, batch: Images, placements: Sequence[Placement] | None = None) -> Evidence:
        """Encode, resample, decode what changed, and compute what the form needs beside.

        ``placements`` say where the source images lie in the input; None are square, and are
        aligned here if the product is.
        """
        tensors.check_images(batch, self.settings.vqvae.image_size_px, self.settings.category)
        form = self.settings.form
        placements = placements or self.placements(batch)
        batch = tensors.filled(batch, placements).to(self.device)
        batch = batch.contiguous(memory_format=torch.channels_last)
        codes = self.vqvae.encode(batch)
        resampled = self.resample(codes)
        return Evidence(
            placements=placements,
            codes=codes,
            restored_codes=resampled.codes,
            differences=self.anomaly_maps(codes, resampled.codes, placements=placements),
            surprisals=self.surprisals(batch, resampled.likelihood) if form != "plain" else [],
            local_fields=local_fields(self.local_statistics, self.segmenter, batch, placements)
            if form == "full"
            else [],
        )

    def witness_fields(self, found: Evidence) -> list[dict[str, Field]]:
        """The fields of the witnesses, by name, of each image; none but in the full form."""
        if self.settings.form != "full":
            return []
        assert self.settings.usual is not None
        return witnesses.fields_of(
            found.local_fields,
            found.surprisals,
            found.differences,
            self.settings.usual,
            places_of(found.placements, self.settings.vqvae.latent_size),
        )

    def judged(
        self, found: Evidence, fields: list[dict[str, Field]]
    ) -> tuple[list[float], list[OwnMap]]:
        """Scores and maps; in the full form of the witnesses' fields."""
        settings = self.settings
        if settings.form != "full":
            maps = [
                its.map_of(each)
                for its, each in zip(found.placements, self.joined_maps(found), strict=True)
            ]
            return [self.score_of(each) for each in maps], maps
        assert settings.area_rule is not None
        return area_score.judged(
            [witnesses.join_fields(each, settings.witnesses) for each in fields],
            settings.area_rule,
            size_px=settings.vqvae.image_size_px,
            minimum_area_px=settings.minimum_area_px,
            placements=found.placements,
        )

    def surprisals(self, batch: Images, likelihood: Likelihood) -> list[Surprisal]:
        """Surprisal of a batch in all readings; ``likelihood`` is that of the first one."""
        likelihoods = [likelihood]
        others = surprisal.readings(self.settings.kind)[1:] if self.settings.turned_reading else ()
        for n in others:
            turned = nth_symmetry(batch, n).contiguous(memory_format=torch.channels_last)
            codes = self.vqvae.encode(turned)
            likelihoods.append(likelihood_of(self.prior(codes), codes))
        return surprisal.surprisal(likelihoods, self.settings.kind, eta=self.settings.resample.eta)

    def joined_maps(self, found: Evidence) -> list[AnomalyMap]:
        """The differences, in the joined form with the surprisal; of the model's input."""
        if self.settings.form == "plain":
            return found.differences
        usual, eta = self.settings.usual, self.settings.resample.eta
        assert usual is not None
        cells = places_of(found.placements, self.settings.vqvae.latent_size)
        return surprisal.joined_maps(found.differences, found.surprisals, usual, eta, cells)

    def score_of(self, anomaly_map: AnomalyMap) -> float:
        """The score of one map, in grey levels."""
        return score.score(anomaly_map, minimum_area_px=self.settings.minimum_area_px)

    def resample(self, codes: Codes) -> Resampled:
        """Resample codes with the fastest exact algorithm."""
        return in_runs(self.incremental_prior, codes, self.settings.resample)

    def anomaly_maps(
        self,
        codes: Codes,
        restored_codes: Codes,
        *,
        filtered: bool = True,
        placements: Sequence[Placement] | None = None,
    ) -> list[AnomalyMap]:
        """Maps of the difference between both decodings, exactly 0 for an image without a change.

        Unless ``filtered``, they are eq. 6 without the bilateral filter. They are of the model's
        input, and pixels that don't count by ``placements`` have no difference.
        """
        changed, *pair = self.changed_pairs(codes, restored_codes)
        size_px = self.settings.vqvae.image_size_px
        return anomaly_map.maps_of_pairs(
            len(codes), changed, *pair, size_px=size_px, filtered=filtered, placements=placements
        )

    def changed_pairs(
        self, codes: Codes, restored_codes: Codes
    ) -> tuple[list[int], Tensor, Tensor]:
        """Positions of the maps with changes; their direct and restored decodings, channels last.

        Both are decoded in one batch, and only for maps with changes.
        """
        size_px = self.settings.vqvae.image_size_px
        changed = (codes != restored_codes).flatten(1).any(1).nonzero()[:, 0]
        both = torch.empty((0, size_px, size_px, 3))
        if len(changed):
            decoded = self.vqvae.decode(torch.cat([codes[changed], restored_codes[changed]]))
            both = decoded.movedim(1, -1)
        return changed.tolist(), both[: len(changed)], both[len(changed) :]

    def pictures(self, codes: Codes) -> np.ndarray:
        """Decoded codes as 8-bit RGB (batch, size, size, 3), for people."""
        return (self.vqvae.decode(codes) * 255).round().byte().movedim(1, -1).cpu().numpy()

    def regions(
        self, anomaly_map: AnomalyMap, *, source_width_px: int, source_height_px: int
    ) -> list[score.Region]:
        """Defective regions of one map, in pixels of the source image."""
        return score.regions(
            anomaly_map,
            threshold=self.settings.threshold,
            minimum_area_px=self.settings.minimum_map_area_px(
                anomaly_map.shape, source_px=(source_width_px, source_height_px)
            ),
            source_width_px=source_width_px,
            source_height_px=source_height_px,
        )

    def save(self, models: str, beside: Mapping[str, bytes] | None = None, **how: Any) -> str:
        """Save a new version in ``models`` and put it in force; returns the version.

        ``beside`` are more files for people, by name; loading ignores them. ``how`` may be
        ``promote=False``, which leaves the older version in force, and ``why``, for the log.
        """
        self.version = saved_detector.save(models, self.settings, self.fitted, beside, **how)
        return self.version

    @classmethod
    def load(cls, models: str, category: str, *, version: str = "") -> "Detector":
        """Load the current version, or the given one. Raises DetectorError."""
        settings, parts, version = saved_detector.load(models, category, version)
        return cls(settings=settings, version=version, **vars(parts))


def device() -> str:
    """The device for a task's networks."""
    return "cuda" if torch.cuda.is_available() else "cpu"
