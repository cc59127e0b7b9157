"""Restored pictures: an image as its detector makes it without what it finds improbable."""

from typing import Any

import numpy as np
import torch

from vqad.array_types import Pixels
from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.images import decoding
from vqad.images.headers import ImageError
from vqad.images.tensors import to_images, to_tensor
from vqad.inspection.contact_sheet import RGBPicture


class Restoring:
    """Restores images of one category in one batch, by the detector that gave their verdicts."""

    def __init__(self, models: str, row: dict[str, Any]) -> None:
        """Load the detector of a verdict row; without it, ``reason`` says why."""
        self.detector: Detector | None = None
        self.reason = ""
        self.pixels: dict[str, Pixels] = {}  # decoded, by image
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
        size_px = self.detector.settings.vqvae.image_size_px
        try:
            self.pixels[image] = decoding.decode(data, size_px=size_px).pixels
        except ImageError:
            return  # its card says so where the whole image would be

    @torch.inference_mode()
    def pictures(self) -> dict[str, RGBPicture]:
        """The restored pictures by image."""
        if self.detector is None or not self.pixels:
            return {}
        pixels = decoding.stack(list(self.pixels.values()), bits=self.detector.settings.bits)
        batch = to_images(to_tensor(pixels)).to(self.detector.device)
        codes = self.detector.vqvae.encode(batch.contiguous(memory_format=torch.channels_last))
        restored: np.ndarray = self.detector.pictures(self.detector.resample(codes).codes)
        return dict(zip(self.pixels, restored, strict=True))
