"""Metrics of scores and maps against ground truth (paper section 4.2, tables 1 to 4).

One category is measured at a time, with its maps in memory as float32: 150 images of 256 x 256 are
40 MB. The curves are exact and not computed from a histogram. They need little more memory than
the maps, because a curve changes its direction only at values of defective pixels, of which there
are few. Metrics depend on the resolution of the maps, so whoever reports them names it.

Some metrics are taken at the detector's own threshold: image accuracy, PRO (eq. 7, not the AU-PRO
of the literature), F1 (eq. 8 to 10), recall and the rate of false alarms. AUROC and AU-PRO take all
thresholds together. F1max is F1 at the best threshold for these labels. It is an upper bound: a
detector has to choose its threshold without labels.
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
    """Each in [0, 1], and larger is better but for false alarms; None where it is not defined."""

    image_accuracy: float | None  # balanced: mean of recall and 1 - false_alarm_rate
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    au_pro: float | None
    image_f1: float | None
    pixel_f1: float | None
    image_f1max: float | None
    pixel_f1max: float | None
    false_alarm_rate: float | None  # share of good images above the threshold
    recall: float | None  # share of defective images above the threshold


def evaluate(
    scores: Float[ndarray, " n"],
    is_defect: Bool[ndarray, " n"],
    maps: Float32[ndarray, "n height width"] | None,
    masks: Bool[ndarray, "n height width"] | None,
    *,
    threshold: float,
    counted: Bool[ndarray, "n height width"] | None = None,
) -> Metrics:
    """Measure one category's test set; `masks` is true where a pixel is defective.

    Pixels where ``counted`` is false are left out; their maps are 0 and their masks are false.
    Without maps or masks the pixel metrics are None. Raises ValueError if the threshold, a score or
    a map is not finite, or if a normal image has a mask; it names the image by its index.
    """
    _check(scores, is_defect, maps, masks, threshold)
    called = scores > np.float64(threshold)
    of_pixels: dict[str, float | None] = dict.fromkeys(_OF_PIXELS)
    if maps is not None and masks is not None and masks.any():
        of_pixels = _of_pixels(maps, masks, threshold, counted)
    return Metrics(
        image_accuracy=image_accuracy(is_defect, called),
        image_auroc=auroc(is_defect, scores),
        image_f1=f1(is_defect, called),
        image_f1max=f1max(is_defect, scores),
        false_alarm_rate=_share(called[~is_defect]),
        recall=_share(called[is_defect]),
        **of_pixels,
    )


def _share(called: Bool[ndarray, " n"]) -> float | None:
    return float(called.mean()) if len(called) else None


_OF_PIXELS = ("pixel_auroc", "pro", "au_pro", "pixel_f1", "pixel_f1max")


def _of_pixels(
    maps: Float32[ndarray, "n height width"],
    masks: Bool[ndarray, "n height width"],
    threshold: float,
    counted: Bool[ndarray, "n height width"] | None,
) -> dict[str, float | None]:
    shares = _shares(masks)
    found = predicted_mask(maps[masks][None], threshold)[0]
    num_called = sum(int(predicted_mask(each, threshold).sum()) for each in maps)
    merged = _merged(maps, masks, shares, counted)
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
    defined = _defined(metrics)
    return Metrics(**{name: float(np.mean(v)) if v else None for name, v in defined.items()})


def worst(metrics: Sequence[Metrics]) -> Metrics:
    """The worst of each metric over the categories where it is defined."""
    found: dict[str, float | None] = {}
    for name, values in _defined(metrics).items():
        worst_of = max if name == "false_alarm_rate" else min
        found[name] = worst_of(values) if values else None
    return Metrics(**found)


def _defined(metrics: Sequence[Metrics]) -> dict[str, list[float]]:
    """The values of each metric where it is defined."""
    columns = {f.name: [getattr(m, f.name) for m in metrics] for f in fields(Metrics)}
    return {name: [v for v in column if v is not None] for name, column in columns.items()}


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
    """Probability that a positive's value exceeds a negative's; equal values count as half."""
    if not _has_both(truth):
        return None
    return float(roc_auc_score(truth, values, sample_weight=counts))


def f1(truth: Bool[ndarray, " n"], called: Bool[ndarray, " n"]) -> float | None:
    """Harmonic mean of precision and recall (eq. 8 to 10); 0 if nothing is found."""
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
    """The largest F1 of all thresholds."""
    if not truth.any():
        return None
    precision, recall, _ = precision_recall_curve(truth, values, sample_weight=counts)
    # Precision is 0 only if recall is 0, and then F1 is 0 as well.
    both = precision + recall
    return float((2 * precision * recall / np.where(both > 0, both, 1)).max())


class _Merged(NamedTuple):
    """The pixels of a test set, merged as far as no curve depends on it.

    A curve over the pixels in the order of their values changes its direction only at defective
    pixels. So all other pixels of one value, or between the same two values of defective pixels,
    are one entry with their number.
    """

    truth: Bool[ndarray, " merged"]
    order: Int64[ndarray, " merged"]  # in the order of the values; equal for equal values
    num: Float64[ndarray, " merged"]  # pixels
    share: Float64[ndarray, " merged"]  # of PRO for defective pixels, of the pixels for others


def _merged(
    maps: Float32[ndarray, "n height width"],
    masks: Bool[ndarray, "n height width"],
    shares: Float64[ndarray, " defective"],
    counted: Bool[ndarray, "n height width"] | None,
) -> _Merged:
    levels, level_of = np.unique(maps[masks], return_inverse=True)
    # Bin 2i + 1 is for the i-th level, bin 2i for values between the level before it and it.
    others = np.zeros(2 * len(levels) + 1, np.int64)
    for at in range(0, len(maps), _IMAGES_AT_ONCE):
        some = slice(at, at + _IMAGES_AT_ONCE)
        is_other = ~masks[some] if counted is None else ~masks[some] & counted[some]
        values = np.sort(maps[some][is_other])
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

    As in the MVTec evaluation, components are 8-connected and per image, the rate is over all
    negative pixels of the test set, ties are merged, and the points of the curve are joined by
    straight lines. PRO is the true-positive rate if the pixels of each component share one weight.
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
    """The share of PRO of each defective pixel, image by image and row by row.

    It is 1 / (area of its component * number of components in the test set).
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
