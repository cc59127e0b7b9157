"""The options of a training, each declared once: `vqad train` derives its flags from them.

A field with ``help`` in its metadata is a flag of the command, and one with ``per_category`` is a
key of ``[categories.NAME]`` in a configuration file. ``metavar`` names the kind of value where the
type does not say it. The module loads no torch, so that `vqad train --help` is quick; only the
checks of an options object do.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vqad.images.tiles import Tiling

PresetName = Literal["paper", "laptop", "tiny"]  # the keys of `presets.PRESETS`
FormName = Literal["plain", "joined", "full"]  # as in `detection.surprisal.Form`
ResizeName = Literal["squash", "pad"]  # as in `images.placement.Resize`
AlignName = Literal["auto", "always", "never"]
PrecisionName = Literal["float32", "bfloat16"]  # as in `model.bfloat16.Precision`
KindName = Literal["texture", "rotatable_object", "object"]  # as in `model.kinds.Kind`
# The options that set the smallest area of a defect, each in a unit of its own.
MINIMUM_AREAS = ("minimum_area_px", "minimum_area_source_px", "minimum_area_mm2")


# How new detectors take images, but those of the preset paper, which squashes them.
DEFAULT_RESIZE: ResizeName = "pad"
# Whose new detectors compute in bfloat16: tiny is for the demo and the tests, where speed matters
# less than one number format on every machine, and the paper's networks compute as the paper's do.
_IN_BFLOAT16: tuple[PresetName, ...] = ("laptop",)

# Options that came later than others; None was what happened before.
_LATER = (
    *("good_pattern", "minimum_area_source_px", "minimum_area_mm2", "px_per_mm"),
    *("resize", "tile_px", "tile_overlap_px", "roi", "ignore", "precision", "align"),
)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of one category's fit."""

    category: str
    kind: KindName | None = field(
        default=None,
        metadata={
            "per_category": "texture, rotatable_object or object; default: found from the images"
        },
    )
    preset: PresetName = field(
        default="laptop",
        metadata={"help": "size of the networks and number of optimizer steps"},
    )
    seed: int = field(
        default=0,
        metadata={"help": "random seed for weights, batches, augmentation and the held-out split"},
    )
    minimum_area_px: int | None = field(
        default=None,
        metadata={
            "help": "smallest area of a defect, in pixels of the model's input; default: the area "
            "of one latent cell",
            "per_category": "smallest area of a defect, in pixels of the model's input",
        },
    )
    minimum_area_source_px: int | None = field(
        default=None,
        metadata={
            "help": "smallest area of a defect, in pixels of the image, in place of "
            "--minimum-area-px; the size of the training images converts it; default: none",
            "per_category": "smallest area of a defect, in pixels of the image",
        },
    )
    minimum_area_mm2: float | None = field(
        default=None,
        metadata={
            "help": "smallest area of a defect, in square millimetres, in place of "
            "--minimum-area-px; needs --px-per-mm; default: none",
            "per_category": "smallest area of a defect, in square millimetres; needs px_per_mm",
        },
    )
    px_per_mm: float | None = field(
        default=None,
        metadata={
            "help": "pixels of the image in one millimetre; verdicts then have regions in "
            "millimetres too; default: not known",
            "per_category": "pixels of the image in one millimetre",
        },
    )
    eta: float | Literal["auto"] = field(
        default=5e-4,  # the paper's (4.3.3)
        metadata={
            "help": "likelihood below which a code is improbable; auto searches for the best value "
            "per category"
        },
    )
    threshold_quantile: float | None = field(
        default=None,
        metadata={
            "help": "quantile of the scores of normal images that becomes the threshold; default: "
            "1, the paper's rule; in the full form a threshold for 5 % of false alarms"
        },
    )
    form: FormName | None = field(
        default=None,
        metadata={
            "help": "form of the anomaly map: plain is the paper's, joined adds the surprisal of "
            "the codes, full adds local statistics and a segmenter; default: plain with the preset "
            "paper, else full"
        },
    )
    resize: ResizeName | None = field(
        default=None,
        metadata={
            "help": "how images become the model's square input: pad keeps the aspect ratio, and "
            f"the rest of the square counts nowhere, squash does not; default: {DEFAULT_RESIZE}, "
            "but squash with the preset paper and with tiles",
            "per_category": "pad keeps the aspect ratio, squash does not",
        },
    )
    align: AlignName | None = field(
        default=None,
        metadata={
            "help": "turn each image into one pose before it is inspected: auto does so where it "
            "makes normal images much more alike, in the form full; default: auto",
            "per_category": "turn each image into one pose: auto, always or never",
        },
    )
    tile_px: int | None = field(
        default=None,
        metadata={
            "help": "side of the square tiles that images are cut into, in pixels of the image; "
            "each is resized to the model's input; default: no tiles, each image is resized",
            "per_category": "side of the tiles that its images are cut into, in their pixels",
        },
    )
    tile_overlap_px: int | None = field(
        default=None,
        metadata={
            "help": "pixels that neighbouring tiles share at least; default: an eighth of the tile",
            "per_category": "pixels that neighbouring tiles share at least",
        },
    )
    roi: str | None = field(
        default=None,
        metadata={
            "metavar": "URI",
            "per_category": "region of interest: a mask picture of the size of its images, white "
            "inside, or a .json file with polygons; what lies outside counts nowhere",
        },
    )
    ignore: str | None = field(
        default=None,
        metadata={
            "metavar": "URI",
            "per_category": "region to ignore, in the same form; what lies inside counts nowhere",
        },
    )
    precision: PrecisionName | None = field(
        default=None,
        metadata={
            "help": "number format in which the detector's networks compute, in its calibration "
            "and in every inspection; default: bfloat16 with the preset laptop, else float32, and "
            "the detector's own with --only calibrate"
        },
    )
    good_pattern: str | None = field(
        default=None,
        metadata={
            "help": "regular expression for the paths of good images below DATA/CATEGORY; default: "
            "train/good, good, and other known places",
            "per_category": "regular expression for the paths of its good images",
        },
    )
    heldout_group: str | None = field(
        default=None,
        metadata={
            "per_category": "regular expression; images with the same first group stay on one side "
            "of the held-out split"
        },
    )

    def __post_init__(self) -> None:
        """Refuse options with which nothing can be fitted."""
        from vqad.detection.settings import SMALLEST_ETA
        from vqad.model.resample import ResampleOptions
        from vqad.training import good_images, holdout
        from vqad.training.presets import preset_of

        preset_of(self.preset)  # refuses a name that is not there
        self._check_areas()
        if self.eta != "auto":
            ResampleOptions(eta=self.eta)
            if self.eta < SMALLEST_ETA:
                raise ValueError(
                    f"eta must be at least {SMALLEST_ETA:g}, got {self.eta:g}: with a smaller "
                    "one no image would be defective"
                )
        self._check_tiles()
        quantile = self.threshold_quantile
        if quantile is not None and not 0 < quantile <= 1:
            raise ValueError(f"threshold_quantile must be in (0, 1], got {quantile}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, {2**32}), got {self.seed}")
        if self.heldout_group is not None:
            holdout.check_group(self.heldout_group)
        if self.good_pattern is not None:
            good_images.check_pattern(self.good_pattern)

    def _check_areas(self) -> None:
        given = [name for name in MINIMUM_AREAS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)} are given, and each sets the smallest area of a defect; "
                "leave out all but one"
            )
        for name in (*MINIMUM_AREAS, "px_per_mm"):
            value = getattr(self, name)
            if name.endswith("_px") and value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0, got {value}")
        if self.minimum_area_mm2 is not None and self.px_per_mm is None:
            raise ValueError("minimum_area_mm2 needs px_per_mm: how many pixels a millimetre has")

    def _check_tiles(self) -> None:
        if self.tile_overlap_px is not None and self.tile_px is None:
            raise ValueError(
                f"tile_overlap_px {self.tile_overlap_px} needs tile_px: give --tile-px as well"
            )
        if self.tiling is not None and self.form == "joined":
            raise ValueError("the form joined takes no tiles: give --form plain or full")
        if self.tiling is not None and self.resize == "pad":
            raise ValueError("tiles are square, so there is nothing to pad: leave out --resize")
        if self.align == "always" and (self.tile_px is not None or self.roi or self.ignore):
            raise ValueError(
                "images with tiles or a region of interest can't be turned into one pose: leave "
                "out align"
            )

    @property
    def tiling(self) -> "Tiling | None":
        """How images are cut into tiles; None if they are not. Raises ValueError."""
        from vqad.images.tiles import Tiling

        if self.tile_px is None:
            return None
        overlap_px = self.tile_px // 8 if self.tile_overlap_px is None else self.tile_overlap_px
        return Tiling(tile_px=self.tile_px, overlap_px=overlap_px)

    @property
    def known_precision(self) -> PrecisionName:
        """The number format that was asked for, or the preset's."""
        return self.precision or ("bfloat16" if self.preset in _IN_BFLOAT16 else "float32")

    @property
    def known_kind(self) -> KindName:
        """The kind, where it is given or has been found."""
        assert self.kind is not None
        return self.kind

    @property
    def known_resize(self) -> ResizeName:
        """How images are resized: as it is given, else as new detectors do."""
        squashed = self.preset == "paper" or self.tile_px is not None  # a tile is square
        return self.resize or ("squash" if squashed else DEFAULT_RESIZE)

    def shaping(self) -> dict[str, Any]:
        """The options as plain values, for hashes that must be the same in all versions."""
        # Options that came later count only if they are given: a new version of the program must
        # not train everything again.
        later = dict.fromkeys(_LATER)
        options = asdict(self)
        if self.threshold_quantile is None:
            options["threshold_quantile"] = 1.0  # the default of all forms that there were
        return {name: each for name, each in options.items() if later.get(name, 0) != each}


def recorded_options(recorded: Mapping[str, Any], category: str) -> TrainOptions:
    """The options that a detector was fitted with, from its record. Raises ValueError."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(TrainOptions).validate_python(recorded)
    except ValidationError as error:
        raise ValueError(
            f"the {category} detector has no valid record of the options that it was fitted with "
            f"({error.errors()[0]['msg']}); train it again"
        ) from error
