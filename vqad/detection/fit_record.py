"""The record of how a detector was fitted and calibrated, kept in its ``detector.json``.

No verdict depends on it, but the p-value beside it does: it compares the score with those that are
recorded here. Evaluation and recalibration read the held-out images, and people read where a
detector comes from.
"""

from dataclasses import dataclass, field
from typing import Any

from vqad.detection.normal_statistics import NormalStatistics


@dataclass(frozen=True, kw_only=True)
class ThresholdRecord:
    """Where a threshold comes from, and what it promises for normal images."""

    # largest or quantile of the scores; conformal, for a rate of false alarms; per night, for a
    # number of images; value, as it was given
    rule: str
    source: list[str]  # held-out images or cross-fitted images, or the URIs of outputs
    num_scores: int
    asked: float | None = None  # quantile, rate, images of a night, or threshold
    rate: float | None = None  # expected share of normal images above the threshold; at most this
    deviation: float | None = None  # of that share, over the choice of the images
    # True if alarms that nobody has reviewed count as normal images, so that the rate is lower.
    is_bound: bool = False
    from_version: str = ""  # the version of which this one has the weights and the other settings


@dataclass(frozen=True, kw_only=True)
class FitRecord:
    """How a detector came about. Detectors of older programs lack some of these values.

    A value that is not recorded is empty or None.
    """

    options: dict[str, Any] = field(default_factory=dict)  # of the training, as in `TrainOptions`
    num_images: int = 0  # that could be read, held-out images included
    held_out: list[str] = field(default_factory=list)  # URIs
    unreadable: list[str] = field(default_factory=list)  # "URI: reason", of images left out
    held_out_error: float | None = None  # VQ-VAE: mean squared error, images in [-1, 1]
    held_out_nats: float | None = None  # prior: mean negative log-likelihood per code
    codes_used: int = 0  # distinct codes on the training images
    steps: dict[str, int] = field(default_factory=dict)  # optimizer steps by stage
    fit_vqvae: dict[str, int | float] = field(default_factory=dict)  # as in `FitOptions`
    fit_prior: dict[str, int | float] = field(default_factory=dict)
    held_out_scores: list[float] = field(default_factory=list)  # in the detector's unit
    # Of all normal images that set the threshold of the form full, by parts that did not see them.
    cross_fitted_scores: list[float] = field(default_factory=list)
    # Of a night's images that are normal as far as is known, where these set the threshold.
    night_scores: list[float] = field(default_factory=list)
    threshold: ThresholdRecord | None = None
    held_out_maps_not_zero: int | None = None  # held-out images of which a code was resampled
    kind_found_by: str = ""  # "given", or "normal images" if it was found from them
    eta_found_by: str = ""  # "given", or "painted rectangles" after a search
    eta_pixel_auroc: float | None = None  # of the search
    run: str = ""  # name of the training run
    data_fingerprint: str = ""  # hash over names and contents of the training images
    made_with: dict[str, int | str] = field(default_factory=dict)  # code, library, device, threads
    suspicious: list[str] = field(default_factory=list)  # "URI: reason", left out like a mask
    num_copies: int = 0  # images that were copies of others, equal or nearly
    # URIs of confirmed false alarms that were learned from beside the good images.
    reviewed: list[str] = field(default_factory=list)
    # Pixels of the image that a pixel of the map covers, of the median training image.
    map_pixel_area_px: float | None = None
    # Share of the normal images that their mean leaves, as they are and each turned into one pose;
    # None where no pose was sought.
    unexplained: float | None = None
    unexplained_aligned: float | None = None
    calibrated_from: str = ""  # the version whose networks a recalibration took over
    # What the normal images look like, with which later nights are compared.
    normal: NormalStatistics | None = None
