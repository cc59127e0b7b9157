"""How good scores and maps are against ground truth (paper section 4.2, tables 1 to 4).

One category at a time, its maps held as float32: 150 images of 256 x 256 are 40 MB, and exact
curves need every distinct value, which a histogram would blur. Across categories only `Metrics`
are kept. Figures hold for the resolution of the maps that are given, the model's input as a rule;
whoever reports them says which.

Some metrics are at the detector's own threshold: image accuracy, PRO (eq. 7, not the literature's
AU-PRO), and F1 (eq. 8 to 10). AUROC and AU-PRO take all thresholds together. F1max is F1 at the
threshold that suits these very labels best: an upper bound, which no detector is entitled to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from numpy import ndarray
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from vqad.score import predicted_mask

# The false-positive rate up to which AU-PRO integrates, as in the MVTec evaluation.
AU_PRO_LIMIT = 0.3


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Each in [0, 1], larger is better; None where the test set leaves it undefined."""

    image_accuracy: float | None
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    au_pro: float | None
    image_f1: float | None
    pixel_f1: float | None
    image_f1max: float | None
    pixel_f1max: float | None


def evaluate(
    scores: Float[ndarray, " n"],
    is_defect: Bool[ndarray, " n"],
    maps: Float32[ndarray, "n height width"],
    masks: Bool[ndarray, "n height width"],
    *,
    threshold: float,
) -> Metrics:
    """Measure one category's test set; `masks` is true where a pixel is defective.

    Raises ValueError, naming the image by its index, where a score or map is not finite or a
    normal image has a mask, and where the threshold is not finite.
    """
    _check(scores, is_defect, maps, masks, threshold)
    called = scores > np.float64(threshold)
    predicted = predicted_mask(maps, threshold)
    weights = _weights(masks)
    # The library sorts for each curve, but what is sorted already takes it no time.
    order = np.argsort(maps, axis=None)[::-1]
    values, truth = maps.ravel()[order], masks.ravel()[order]
    return Metrics(
        image_accuracy=image_accuracy(is_defect, called),
        image_auroc=auroc(is_defect, scores),
        pixel_auroc=auroc(truth, values),
        pro=float(weights[masks & predicted].sum()) if masks.any() else None,
        au_pro=_au_pro(truth, values, weights.ravel()[order]),
        image_f1=f1(is_defect, called),
        pixel_f1=f1(masks.ravel(), predicted.ravel()),
        image_f1max=f1max(is_defect, scores),
        pixel_f1max=f1max(truth, values),
    )


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


def auroc(truth: Bool[ndarray, " n"], values: Float[ndarray, " n"]) -> float | None:
    """Chance that a positive's value exceeds a negative's, an equal one counted as half."""
    return float(roc_auc_score(truth, values)) if _has_both(truth) else None


def f1(truth: Bool[ndarray, " n"], called: Bool[ndarray, " n"]) -> float | None:
    """Harmonic mean of precision and recall (eq. 8 to 10); 0 where nothing is found."""
    num_positive = np.count_nonzero(truth)
    if not num_positive:
        return None
    num_found = np.count_nonzero(truth & called)
    return float(2 * num_found / (np.count_nonzero(called) + num_positive))


def f1max(truth: Bool[ndarray, " n"], values: Float[ndarray, " n"]) -> float | None:
    """Largest F1 of any threshold, that is, with the threshold taken from the labels."""
    if not truth.any():
        return None
    precision, recall, _ = precision_recall_curve(truth, values)
    # Precision is 0 only where recall is, and F1 then 0 as well.
    both = precision + recall
    return float((2 * precision * recall / np.where(both > 0, both, 1)).max())


def _au_pro(
    truth: Bool[ndarray, " pixels"],
    values: Float32[ndarray, " pixels"],
    weights: Float64[ndarray, " pixels"],
) -> float | None:
    """Area under PRO over the false-positive rate, up to a rate of 0.3, divided by it.

    The MVTec evaluation's: 8-connected components per image, the rate over all negative pixels
    of the test set, one point of the curve for each distinct value, straight lines between. PRO
    is nothing but the true-positive rate with the pixels of a component sharing one weight.
    """
    if not _has_both(truth):
        return None
    rates, pro, _ = roc_curve(truth, values, sample_weight=weights, drop_intermediate=False)
    inside = np.searchsorted(rates, AU_PRO_LIMIT, side="right")
    # From the last point within the limit to the first beyond it.
    step = slice(inside - 1, inside + 1)
    at_limit = np.interp(AU_PRO_LIMIT, rates[step], pro[step])
    area = auc(np.append(rates[:inside], AU_PRO_LIMIT), np.append(pro[:inside], at_limit))
    return float(area) / AU_PRO_LIMIT


def _weights(masks: Bool[ndarray, "n height width"]) -> Float64[ndarray, "n height width"]:
    """What each defective pixel adds to PRO when it is found; 1 for all others.

    That is one by the area of its component and by the number of components in the test set.
    """
    weights = np.ones(masks.shape)
    num_components = 0
    for mask, weight in zip(masks, weights, strict=True):
        if mask.any():
            num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(
                np.ascontiguousarray(mask).view(np.uint8), connectivity=8
            )
            weight[mask] = 1 / stats[labels[mask], cv2.CC_STAT_AREA]
            num_components += num_labels - 1
    weights[masks] /= max(1, num_components)
    return weights


def _has_both(truth: Bool[ndarray, " n"]) -> bool:
    return bool(truth.any()) and not truth.all()


def _check(
    scores: Float[ndarray, " n"],
    is_defect: Bool[ndarray, " n"],
    maps: Float32[ndarray, "n height width"],
    masks: Bool[ndarray, "n height width"],
    threshold: float,
) -> None:
    if not np.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number, got {threshold}")
    for index, (score, anomaly_map) in enumerate(zip(scores, maps, strict=True)):
        if not np.isfinite(score):
            raise ValueError(f"the score of image {index} is {score}")
        if not np.isfinite(anomaly_map).all():
            raise ValueError(f"the map of image {index} holds values that are not finite")
        if masks[index].any() and not is_defect[index]:
            num_pixels = np.count_nonzero(masks[index])
            raise ValueError(
                f"image {index} is labelled normal, but its mask has {num_pixels} defective pixels"
            )
