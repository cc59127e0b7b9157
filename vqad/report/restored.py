"""Restored pictures: an image as its detector makes it without what it finds improbable."""

from typing import Any

import numpy as np
import torch

from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.images import decoding
from vqad.images.decoding import Decoded
from vqad.images.headers import ImageError
from vqad.images.tensors import filled, to_images, to_tensor
from vqad.inspection.contact_sheet import RGBPicture


class Restoring:
    """Restores images of one category in one batch, by the detector that gave their verdicts."""

    def __init__(self, models: str, row: dict[str, Any]) -> None:
        """Load the detector of a verdict row; without it, ``reason`` says why."""
        self.detector: Detector | None = None
        self.reason = ""
        self.decoded: dict[str, Decoded] = {}  # by image
        try:
            if not models:
                raise DetectorError("run.json names no folder with detectors; give --models")
            # On the CPU: a node's GPUs belong to the detectors of inspections.
            self.detector = Detector.load(models, row["category"], version=row["model_version"])
        except DetectorError as error:
            self.reason = f"the detector cannot be loaded: {error}"
        if self.detector is not None and self.detector.settings.tiling is not None:
            # It would take as long as an inspection of all tiles.
            self.detector, self.reason = None, "images that are looked at by tiles have none"

    def add(self, image: str, data: bytes) -> None:
        """Decode an image's file and keep it for `pictures`."""
        if self.detector is None:
            return
        try:
            self.decoded[image] = decoding.decode_as(self.detector.settings.image_form, data)
        except ImageError:
            return  # its card says so where the whole image would be

    @torch.inference_mode()
    def pictures(self) -> dict[str, RGBPicture]:
        """The restored pictures by image, without padding."""
        if self.detector is None or not self.decoded:
            return {}
        found = list(self.decoded.values())
        pixels = decoding.stack([each.pixels for each in found], bits=self.detector.settings.bits)
        sources = [each.source_px for each in found]
        placements = self.detector.geometry.placements(len(found), sources)
        batch = filled(to_images(to_tensor(pixels)), placements).to(self.detector.device)
        codes = self.detector.vqvae.encode(batch.contiguous(memory_format=torch.channels_last))
        restored: np.ndarray = self.detector.pictures(self.detector.resample(codes).codes)
        pairs = zip(placements, restored, strict=True)
        return dict(zip(self.decoded, (its.cropped(each) for its, each in pairs), strict=True))
