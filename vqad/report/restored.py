"""Restored pictures: an image as its detector makes it without what it finds improbable."""

from typing import Any, Final

import numpy as np
import torch

from vqad.detection.stitched import stitched
from vqad.detection.weights import DetectorError
from vqad.detection.whole_images import BATCH_SIZE, grid_of, tiles_of
from vqad.detector import Detector
from vqad.images import decoding
from vqad.images.decoding import Decoded, WholeImage
from vqad.images.headers import ImageError
from vqad.images.tensors import filled, to_images, to_tensor
from vqad.inspection.contact_sheet import RGBPicture

# A guess: an image of 2448 x 2048 pixels has 30 tiles of 512. A tile takes as long as an image that
# has none, and a page shows 100 restored pictures.
MOST_TILES: Final = 40
_SHOWN_PX: Final = 256  # longer side of the picture of an image with tiles


class Restoring:
    """Restores images of one category in one batch, by the detector that gave their verdicts."""

    def __init__(self, models: str, row: dict[str, Any]) -> None:
        """Load the detector of a verdict row; without it, ``reason`` says why."""
        self.detector: Detector | None = None
        self.reason = ""
        self.decoded: dict[str, Decoded] = {}  # by image, of those without tiles
        self.of_tiles: dict[str, RGBPicture] = {}  # restored pictures of the others
        self.reasons: dict[str, str] = {}  # why an image has none
        try:
            if not models:
                raise DetectorError("run.json names no folder with detectors; give --models")
            # On the CPU: a node's GPUs belong to the detectors of inspections.
            self.detector = Detector.load(models, row["category"], version=row["model_version"])
        except DetectorError as error:
            self.reason = f"the detector cannot be loaded: {error}"

    def add(self, image: str, data: bytes) -> None:
        """Decode an image's file and keep it for `pictures`."""
        if self.detector is None:
            return
        try:
            if self.detector.settings.tiling is None:
                self.decoded[image] = decoding.decode_as(self.detector.settings.image_form, data)
            else:
                # Now, because the pixels of several images may be more than the memory.
                self._add_tiles(image, decoding.decode_whole(data), self.detector)
        except ImageError:
            return  # its card says so where the whole image would be

    @torch.inference_mode()
    def _add_tiles(self, image: str, whole: WholeImage, detector: Detector) -> None:
        if reason := detector.settings.image_form.refusal((whole.width_px, whole.height_px)):
            self.reasons[image] = reason
            return
        grid = grid_of(whole, detector)
        if len(grid) > MOST_TILES:
            self.reasons[image] = f"it has {len(grid)} tiles; at most {MOST_TILES} are restored"
            return
        codes = []
        for tiles in tiles_of(whole, grid, detector, BATCH_SIZE):
            batch = tiles.images.to(detector.device)
            found = detector.vqvae.encode(batch.contiguous(memory_format=torch.channels_last))
            codes.append(detector.resample(found).codes)
        self.of_tiles[image] = stitched(
            grid, torch.cat(codes), detector.pictures, most_px=_SHOWN_PX
        )

    def reason_of(self, image: str) -> str:
        """Why an image has no restored picture; "" if it may have one."""
        return self.reason or self.reasons.get(image, "")

    @torch.inference_mode()
    def pictures(self) -> dict[str, RGBPicture]:
        """The restored pictures by image, without padding."""
        if self.detector is None or not self.decoded:
            return self.of_tiles
        found = list(self.decoded.values())
        pixels = decoding.stack([each.pixels for each in found], bits=self.detector.settings.bits)
        sources = [each.source_px for each in found]
        images = to_images(to_tensor(pixels))
        placements = self.detector.placements(images, sources)
        batch = filled(images, placements).to(self.detector.device)
        codes = self.detector.vqvae.encode(batch.contiguous(memory_format=torch.channels_last))
        restored: np.ndarray = self.detector.pictures(self.detector.resample(codes).codes)
        pairs = zip(placements, restored, strict=True)
        return dict(zip(self.decoded, (its.picture_of(each) for its, each in pairs), strict=True))
