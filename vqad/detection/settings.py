"""The settings that decide a detector's verdicts, as they are recorded with its weights."""

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from vqad.detection.area_score import UNIT, AreaRule
from vqad.detection.fit_record import FitRecord
from vqad.detection.local_residuals import num_channels
from vqad.detection.local_statistics import LocalStatisticsConfig
from vqad.detection.surprisal import LARGEST_DIFFERENCE, Form, Usual
from vqad.detection.weights import DetectorError
from vqad.detection.witnesses import Witness, weights
from vqad.images import decoding
from vqad.images.placement import ImageForm, Resize
from vqad.images.tiles import Tiling
from vqad.model.bfloat16 import Precision
from vqad.model.kinds import Kind
from vqad.model.pixelsnail import PixelSNAILConfig
from vqad.model.resample import ResampleOptions
from vqad.model.segmenter import SegmenterConfig
from vqad.model.vqvae import VQVAEConfig

FORMAT_VERSION: Final = 8
# 1 has the plain form alone, 1 and 2 no bits, 1 to 3 no form `full`, 1 to 4 no segmenter, 1 to 5
# always the second reading, 1 to 6 neither px_per_mm, tiles nor precision, and squash all images,
# 1 to 7 turn no image.
READABLE_VERSIONS: Final = (1, 2, 3, 4, 5, 6, 7, 8)

GREY_LEVELS: Final = "grey levels"
# Of the form `full`: a guess. A defect of a million deviations would be a mistake.
_LARGEST_DEVIATIONS: Final = 1e6

_ROUNDING_NATS: Final = 1e-2
# With a smaller eta no code is improbable and every image normal; its square, which bounds the
# surprisal, has to be a float32 above 0 (1.2e-38).
SMALLEST_ETA: Final = 1.1e-19


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a detector's verdicts depend on, except its weights."""

    category: str
    kind: Kind
    vqvae: VQVAEConfig
    prior: PixelSNAILConfig
    resample: ResampleOptions
    threshold: float  # in `unit`; an image with a larger score is a defect
    minimum_area_px: int  # of a defect, in pixels of the model's input
    form: Form = "plain"  # the paper's map, or that joined with the surprisal of the codes
    usual: Usual | None = None  # surprisal of normal images; of the joined form
    turned_reading: bool = True  # the prior reads textures and rotatable objects twice
    px_per_mm: float | None = None  # pixels of the source image in a millimetre, where it is known
    bits: int = 16  # significant bits of values in 16-bit files, which are divided by 2^bits - 1
    unit: str = GREY_LEVELS  # of maps, scores and threshold
    witnesses: tuple[Witness, ...] = ()  # of the form full, in the order of their weights
    local_statistics: LocalStatisticsConfig | None = None  # of the form full
    area_rule: AreaRule | None = None  # of the form full
    segmenter: SegmenterConfig | None = None  # of the form full, where it has one
    tiling: Tiling | None = None  # of the source images; None if each is looked at as a whole
    resize: Resize = "squash"  # to the model's square input
    # Width and height of the images that a region of interest was made for; None without one.
    roi_source_px: tuple[int, int] | None = None
    aligned: bool = False  # each image is turned into one pose before it is inspected
    precision: Precision = "float32"  # number format in which the networks compute
    preprocessing: dict[str, Any] = field(default_factory=lambda: dict(decoding.PREPROCESSING))
    found: FitRecord = field(default_factory=FitRecord)  # how the detector came about

    @property
    def image_form(self) -> ImageForm:
        """The form of the images that the detector takes."""
        return ImageForm(
            size_px=self.vqvae.image_size_px,
            resize=self.resize,
            roi_source_px=self.roi_source_px,
            tiling=self.tiling,
        )

    @property
    def normal_scores(self) -> list[float]:
        """Scores of normal images that say how unusual another score is; none in some old records.

        Cross-fitted scores are of the form full alone: the record of a detector that was
        recalibrated to another form may still have them, in their other unit.
        """
        crossed = self.found.cross_fitted_scores if self.form == "full" else []
        return self.found.night_scores or crossed or self.found.held_out_scores

    def minimum_map_area_px(self, shape: tuple[int, ...], *, source_px: tuple[int, int]) -> int:
        """The minimum area in pixels of a map of (height, width) ``shape``.

        ``source_px`` are width and height of the source image. The map of an image with tiles may
        be smaller than all its tiles at the size of the model's input.
        """
        if self.tiling is None:
            return self.minimum_area_px
        return self.tiling.area_in_map(
            self.minimum_area_px,
            size_px=self.vqvae.image_size_px,
            shape=shape,
            source_px=source_px,
        )

    def __post_init__(self) -> None:
        """Refuse settings with which there is no sensible verdict."""
        # Whatever exceeds these bounds would make every image normal, so it is a mistake.
        largest_px = self.vqvae.image_size_px**2
        if not 1 <= self.minimum_area_px <= largest_px:
            raise ValueError(
                f"minimum_area_px must be in [1, {largest_px}], the pixels of the model's input, "
                f"got {self.minimum_area_px}"
            )
        largest = _LARGEST_DEVIATIONS if self.form == "full" else LARGEST_DIFFERENCE
        if not 0 <= self.threshold < largest:
            raise ValueError(
                f"threshold must be in [0, {largest:.1f}), the {self.unit} of a score, "
                f"got {self.threshold}"
            )
        if self.px_per_mm is not None and not 0 < self.px_per_mm < math.inf:
            raise ValueError(f"px_per_mm must be above 0, got {self.px_per_mm}")
        if self.bits not in (*decoding.CAMERA_BITS, 16):
            known = ", ".join(map(str, decoding.CAMERA_BITS))
            raise ValueError(f"bits must be one of {known} or 16, got {self.bits}")
        if not self.category:
            raise ValueError("category must not be empty")
        for name in ("num_codes", "latent_size"):
            ours, theirs = getattr(self.prior, name), getattr(self.vqvae, name)
            if ours != theirs:
                raise ValueError(
                    f"prior and VQ-VAE must have the same {name}, got {ours} and {theirs}"
                )
        if self.aligned and (self.tiling or self.roi_source_px):
            raise ValueError("images with tiles or a region of interest can't be aligned")
        if self.tiling is not None and self.form == "joined":
            raise ValueError("the form joined takes no tiles: use plain or full")
        if self.form != "plain":
            self._check_usual()
        if self.form == "full":
            self._check_full()

    def _check_full(self) -> None:
        names = [each.name for each in self.witnesses]
        wanted = weights(with_segmenter=self.segmenter is not None)
        if set(names) != set(wanted) or len(names) != len(wanted):
            raise ValueError(f"the full form has the witnesses {', '.join(wanted)}, got {names}")
        if self.local_statistics is None or self.area_rule is None:
            raise ValueError("the full form needs local_statistics and area_rule")
        ours, theirs = self.local_statistics.features.image_size_px, self.vqvae.image_size_px
        if ours != theirs:
            raise ValueError(
                f"local statistics and VQ-VAE must have the same image_size_px, got {ours} and "
                f"{theirs}"
            )
        if self.segmenter is not None:
            ours = self.segmenter.num_channels
            theirs = num_channels(self.local_statistics.features)
            if ours != theirs:
                raise ValueError(
                    f"the segmenter must have num_channels {theirs}, those of a residual of local "
                    f"statistics, got {ours}"
                )
        if self.unit != UNIT:
            raise ValueError(f"the unit of the full form is {UNIT!r}, got {self.unit!r}")

    def _check_usual(self) -> None:
        if self.resample.eta <= 0:
            raise ValueError(
                f"eta must be above 0 in the {self.form} form, got {self.resample.eta}"
            )
        if self.usual is None:
            raise ValueError(f"the {self.form} form needs the usual surprisal of normal images")
        ours, size = len(self.usual.broad), self.vqvae.latent_size
        if (ours, len(self.usual.fine)) != (size, size):
            raise ValueError(f"usual must have {size} rows of cells, got {ours}")
        bound = -math.log(self.resample.eta)
        for name, rows, largest in (
            ("broad", self.usual.broad, bound),
            ("fine", self.usual.fine, 2 * bound),
        ):
            low, high = float(np.min(rows)), float(np.max(rows))
            # Means of float32 may exceed the bounds of what they are the mean of in the last bits.
            if low < -_ROUNDING_NATS or high > largest + _ROUNDING_NATS:
                raise ValueError(
                    f"usual {name} must be in [0, {largest:.1f}], the nats that eta allows, "
                    f"got {low:g} to {high:g}"
                )


def read_settings(record: dict[str, Any], folder: str) -> Settings:
    """Settings of a record read from ``folder``. Raises DetectorError."""
    if record.get("format_version") not in READABLE_VERSIONS:
        raise DetectorError(
            f"{folder} has format version {record.get('format_version')}, this program reads "
            f"{READABLE_VERSIONS[0]} to {READABLE_VERSIONS[-1]}; train again, or use the program "
            "that wrote it"
        )
    try:
        settings = TypeAdapter(Settings).validate_python(record.get("settings"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DetectorError(f"{folder}/detector.json, {where}: {first['msg']}") from error
    _check_loaded(settings, f"{folder}/detector.json")
    if not isinstance(record.get("files"), dict):
        raise DetectorError(f"{folder}/detector.json names no files; train again")
    return settings


def _check_loaded(settings: Settings, uri: str) -> None:
    """Refuse what a fitted detector never has, and what would make every image normal."""
    version, known = settings.preprocessing.get("version"), decoding.PREPROCESSING["version"]
    if type(version) is not int or not 1 <= version <= known:
        raise DetectorError(
            f"{uri} has preprocessing of version {version}, this program knows 1 to {known}; use "
            "the program that wrote it, or train again"
        )
    if settings.resample.eta < SMALLEST_ETA:
        raise DetectorError(
            f"{uri}: eta must be at least {SMALLEST_ETA:g}, got {settings.resample.eta:g}: with "
            "it no image would be defective; train again"
        )
