"""How good scores and maps are against ground truth (paper section 4.2, tables 1 to 4).

One category at a time, its maps held as float32: 150 images of 256 x 256 are 40 MB. The curves
are exact, no histogram blurs them, and yet cost little more memory than that: a curve turns only
at values of defective pixels, of which there are few. Across categories only `Metrics` are kept.
Figures hold for the resolution of the maps that are given, the model's input as a rule; whoever
reports them says which.

Some metrics are at the detector's own threshold: image accuracy, PRO (eq. 7, not the literature's
AU-PRO), and F1 (eq. 8 to 10). AUROC and AU-PRO take all thresholds together. F1max is F1 at the
threshold that suits these very labels best: an upper bound, which no detector is entitled to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Real
from numpy import ndarray
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from vqad.detection.score import predicted_mask

# The false-positive rate up to which AU-PRO integrates, as in the MVTec evaluation.
AU_PRO_LIMIT = 0.3


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Each in [0, 1], and larger is better except in the last; None where it is not defined."""

    image_accuracy: float | None
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    au_pro: float | None
    image_f1: float | None
    pixel_f1: float | None
    image_f1max: float | None
    pixel_f1max: float | None
    false_alarm_rate: float | None  # share of good images above the threshold


def evaluate(
    scores: Float[ndarray, " n"],
    is_defect: Bool[ndarray, " n"],
    maps: Float32[ndarray, "n height width"] | None,
    masks: Bool[ndarray, "n height width"] | None,
    *,
    threshold: float,
) -> Metrics:
    """Measure one category's test set; `masks` is true where a pixel is defective.

    Without maps, or without masks to hold them against, the pixel metrics are None. Raises
    ValueError, naming the image by its index, where a score or map is not finite or a normal
    image has a mask, and where the threshold is not finite.
    """
    _check(scores, is_defect, maps, masks, threshold)
    called = scores > np.float64(threshold)
    of_pixels: dict[str, float | None] = dict.fromkeys(_OF_PIXELS)
    if maps is not None and masks is not None and masks.any():
        of_pixels = _of_pixels(maps, masks, threshold)
    return Metrics(
        image_accuracy=image_accuracy(is_defect, called),
        image_auroc=auroc(is_defect, scores),
        image_f1=f1(is_defect, called),
        image_f1max=f1max(is_defect, scores),
        false_alarm_rate=float(called[~is_defect].mean()) if not is_defect.all() else None,
        **of_pixels,
    )


_OF_PIXELS = ("pixel_auroc", "pro", "au_pro", "pixel_f1", "pixel_f1max")


def _of_pixels(
    maps: Float32[ndarray, "n height width"],
    masks: Bool[ndarray, "n height width"],
    threshold: float,
) -> dict[str, float | None]:
    shares = _shares(masks)
    found = predicted_mask(maps[masks][None], threshold)[0]
    num_called = sum(int(predicted_mask(each, threshold).sum()) for each in maps)
    merged = _merged(maps, masks, shares)
    truth, order, num = merged.truth, merged.order, merged.num
    return {
        "pixel_auroc": auroc(truth, order, num),
        "pro": float(shares[found].sum()),
        "au_pro": _au_pro(truth, order, merged.share),
        "pixel_f1": 2 * int(found.sum()) / (num_called + len(shares)),
        "pixel_f1max": f1max(truth, order, num),
    }


def mean(metrics: Sequence[Metrics]) -> Metrics:
    """Average each metric over the categories where it is defined."""
    columns = {f.name: [getattr(m, f.name) for m in metrics] for f in fields(Metrics)}
    defined = {name: [v for v in column if v is not None] for name, column in columns.items()}
    return Metrics(**{name: float(np.mean(v)) if v else None for name, v in defined.items()})


def image_accuracy(is_defect: Bool[ndarray, " n"], called: Bool[ndarray, " n"]) -> float | None:
    """Average the share of defects called defect and of normal images called normal (table 1)."""
    if not _has_both(is_defect):
        return None
    return float(called[is_defect].mean() + (~called[~is_defect]).mean()) / 2


def auroc(
    truth: Bool[ndarray, " n"],
    values: Real[ndarray, " n"],
    counts: Real[ndarray, " n"] | None = None,
) -> float | None:
    """Chance that a positive's value exceeds a negative's, an equal one counted as half."""
    if not _has_both(truth):
        return None
    return float(roc_auc_score(truth, values, sample_weight=counts))


def f1(truth: Bool[ndarray, " n"], called: Bool[ndarray, " n"]) -> float | None:
    """Harmonic mean of precision and recall (eq. 8 to 10); 0 where nothing is found."""
    num_positive = np.count_nonzero(truth)
    if not num_positive:
        return None
    num_found = np.count_nonzero(truth & called)
    return float(2 * num_found / (np.count_nonzero(called) + num_positive))


def f1max(
    truth: Bool[ndarray, " n"],
    values: Real[ndarray, " n"],
    counts: Real[ndarray, " n"] | None = None,
) -> float | None:
    """Largest F1 of any threshold, that is, with the threshold taken from the labels."""
    if not truth.any():
        return None
    precision, recall, _ = precision_recall_curve(truth, values, sample_weight=counts)
    # Precision is 0 only where recall is, and F1 then 0 as well.
    both = precision + recall
    return float((2 * precision * recall / np.where(both > 0, both, 1)).max())


class _Merged(NamedTuple):
    """The pixels of a test set, those merged that no curve can tell apart.

    Sorted by value, a curve turns only where a defective pixel comes: all others of equal value,
    or between the same two values of defective ones, may go as one with their number.
    """

    truth: Bool[ndarray, " merged"]
    order: Int64[ndarray, " merged"]  # as the values are ordered; equal where they are
    num: Float64[ndarray, " merged"]  # pixels
    share: Float64[ndarray, " merged"]  # defective: of PRO; others: of pixels


def _merged(
    maps: Float32[ndarray, "n height width"],
    masks: Bool[ndarray, "n height width"],
    shares: Float64[ndarray, " defective"],
) -> _Merged:
    levels, level_of = np.unique(maps[masks], return_inverse=True)
    # Bin 2i + 1 is the i-th level, bin 2i what lies below it and above the one before.
    others = np.zeros(2 * len(levels) + 1, np.int64)
    for at in range(0, len(maps), _IMAGES_AT_ONCE):
        some = slice(at, at + _IMAGES_AT_ONCE)
        values = np.sort(maps[some][~masks[some]])
        bins = np.searchsorted(levels, values, "left") + np.searchsorted(levels, values, "right")
        others += np.bincount(bins, minlength=len(others))
    there = np.flatnonzero(others)
    counts, shared = np.bincount(level_of), np.bincount(level_of, weights=shares)
    return _Merged(
        truth=np.repeat([False, True], [len(there), len(levels)]),
        order=np.concatenate([there, 2 * np.arange(len(levels)) + 1]),
        num=np.concatenate([others[there], counts]).astype(np.float64),
        share=np.concatenate([others[there], shared]).astype(np.float64),
    )


_IMAGES_AT_ONCE = 32


def _au_pro(
    truth: Bool[ndarray, " merged"],
    order: Int64[ndarray, " merged"],
    shares: Float64[ndarray, " merged"],
) -> float | None:
    """Area under PRO over the false-positive rate, up to a rate of 0.3, divided by it.

    The MVTec evaluation's: 8-connected components per image, the rate over all negative pixels
    of the test set, ties merged, straight lines between the points of the curve. PRO is nothing
    but the true-positive rate with the pixels of a component sharing one weight.
    """
    if not _has_both(truth):
        return None
    rates, pro, _ = roc_curve(truth, order, sample_weight=shares, drop_intermediate=False)
    inside = np.searchsorted(rates, AU_PRO_LIMIT, side="right")
    # From the last point within the limit to the first beyond it.
    step = slice(inside - 1, inside + 1)
    at_limit = np.interp(AU_PRO_LIMIT, rates[step], pro[step])
    area = auc(np.append(rates[:inside], AU_PRO_LIMIT), np.append(pro[:inside], at_limit))
    return float(area) / AU_PRO_LIMIT


def _shares(masks: Bool[ndarray, "n height width"]) -> Float64[ndarray, " defective"]:
    """What each defective pixel adds to PRO when it is found, image by image, row by row.

    That is one by the area of its component and by the number of components in the test set.
    """
    shares, num_components = [], 0
    for mask in masks:
        if mask.any():
            num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(
                np.ascontiguousarray(mask).view(np.uint8), connectivity=8
            )
            shares.append(1 / stats[labels[mask], cv2.CC_STAT_AREA])
            num_components += num_labels - 1
    return np.concatenate(shares) / num_components


def _has_both(truth: Bool[ndarray, " n"]) -> bool:
    return bool(truth.any()) and not truth.all()


def _check(
    scores: Float[ndarray, " n"],
    is_defect: Bool[ndarray, " n"],
    maps: Float32[ndarray, "n height width"] | None,
    masks: Bool[ndarray, "n height width"] | None,
    threshold: float,
) -> None:
    if not np.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number, got {threshold}")
    for index, score in enumerate(scores):
        if not np.isfinite(score):
            raise ValueError(f"the score of image {index} is {score}")
        if maps is not None and not np.isfinite(maps[index]).all():
            raise ValueError(f"the map of image {index} holds values that are not finite")
        if masks is not None and masks[index].any() and not is_defect[index]:
            num_pixels = np.count_nonzero(masks[index])
            raise ValueError(
                f"image {index} is labelled normal, but its mask has {num_pixels} defective pixels"
            )
