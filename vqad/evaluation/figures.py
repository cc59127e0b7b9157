"""The paper's figures 6, 7 and 8 for an evaluation; each function returns the bytes of a PNG.

They use matplotlib's figures without its global state, so they open no window.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy import ndarray

from vqad.array_types import AnomalyMap
from vqad.detection.score import predicted_mask
from vqad.evaluation.ablations import ABLATIONS
from vqad.evaluation.measure import LOG10_EDGES, RESAMPLING, Measured, mean_of
from vqad.inspection.contact_sheet import heat
from vqad.training.figure_text import drawable

_NORMAL, _DEFECT = "#3a9d5d", "#d1495b"
# The colours of the paper's figure 8, and two more.
_COLOURS = ("#3d6fb4", "#c44e52", "#e58a2e", "#8f959c", "#7a5195", "#2a9d8f")
_METRICS = {"image_accuracy": "image accuracy", "pro": "PRO", "pixel_auroc": "pixel AUROC"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One row of figure 7. Pictures are RGB; truth and map may have another size than they."""

    caption: str
    image: UInt8[ndarray, "rows cols 3"]
    truth: Bool[ndarray, "height width"] | None
    direct: UInt8[ndarray, "rows cols 3"]
    restored: UInt8[ndarray, "rows cols 3"]
    anomaly_map: AnomalyMap
    threshold: float


def score_distributions(
    by_category: dict[str, Int64[ndarray, "2 bins"]], thresholds: dict[str, float]
) -> bytes:
    """Figure 6: distributions of the anomaly score of normal and of defective pixels.

    Heights are shares of the normal or of the defective pixels. Pixels at exactly 0 have their own
    bar at the left. The threshold is a dashed line.
    """
    figure, panels = _panels(len(by_category), width=4.6, height=3.0)
    for panel, (category, counts) in zip(panels, by_category.items(), strict=False):
        _draw_distribution(panel, counts / np.maximum(1, counts.sum(1, keepdims=True)))
        panel.axvline(np.log10(thresholds[category]), color="black", lw=1, ls="--")
        _set_title(panel, category, fontsize=10, pad=14)
    return _png(figure)


def _draw_distribution(panel: Axes, shares: Float64[ndarray, "2 bins"]) -> None:
    step = LOG10_EDGES[1] - LOG10_EDGES[0]
    zero = LOG10_EDGES[0] - 8 * step
    for row, (label, colour) in enumerate((("normal", _NORMAL), ("defect", _DEFECT))):
        panel.stairs(shares[row, 1:], LOG10_EDGES, fill=True, alpha=0.5, color=colour, label=label)
        # This bar is far higher than all others and cut off, so its height is written too.
        side = 2 * row - 1
        panel.bar(zero + side * 1.5 * step, shares[row, 0], width=3 * step, color=colour, alpha=0.7)
        panel.text(
            zero + side * 0.3 * step,
            1.01,
            f"{shares[row, 0]:.0%}",
            color=colour,
            ha="left" if row else "right",
            va="bottom",
            fontsize=7,
            transform=panel.get_xaxis_transform(),
        )
    panel.set_ylim(0, max(1e-3, 1.15 * float(shares[:, 1:].max())))
    _label_distribution(panel, zero)


def _label_distribution(panel: Axes, zero: float) -> None:
    panel.set_xlabel("anomaly score, in the unit of the detector", fontsize=8)
    panel.set_ylabel("share of the kind's pixels", fontsize=8)
    ticks = [zero, -3, -2, -1, 0, 1, 2]
    panel.set_xticks(ticks, ["0", "≤.001", *(f"{10.0**tick:g}" for tick in ticks[2:])])
    panel.tick_params(labelsize=7)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.1%}"))
    panel.legend(fontsize=7, frameon=False, loc="upper right")


def comparison(rows: Sequence[Shown]) -> bytes:
    """Figure 7: image, truth, direct, restored, map and prediction; one row per image.

    The map's colours go from 0 to twice the threshold; truth and prediction tint the image.
    """
    titles = ("image", "truth", "direct", "restored", "anomaly map", "prediction")
    figure = Figure(figsize=(1.5 * len(titles), 1.72 * len(rows) + 0.3), layout="constrained")
    panels = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, row in zip(panels, rows, strict=True):
        masks = (row.truth, predicted_mask(row.anomaly_map, row.threshold))
        pictures = (
            row.image,
            _tinted(row.image, masks[0], (0, 200, 255)),
            row.direct,
            row.restored,
            heat(row.anomaly_map, row.threshold),
            _tinted(row.image, masks[1], (255, 40, 40)),
        )
        for panel, picture in zip(line, pictures, strict=True):
            panel.imshow(picture, interpolation="antialiased")
            panel.set_xticks([])
            panel.set_yticks([])
        if row.truth is None:
            line[1].set_xlabel("no masks", fontsize=6)
        caption = drawable(row.caption)
        line[0].set_xlabel(caption.pop("text"), fontsize=6, loc="left", **caption)
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=8)
    return _png(figure)


def ablations(measured: Sequence[Measured]) -> bytes:
    """Figure 8: three metrics of the method and its ablations, for each category and their mean."""
    categories = list(dict.fromkeys(each.category for each in measured))
    columns = {
        f"mean of {len(categories)}": {
            name: mean_of(measured, name) for name in (RESAMPLING, *ABLATIONS)
        }
    }
    for category in categories:
        columns[category] = {m.method: m.metrics for m in measured if m.category == category}
    figure, panels = _panels(len(columns), width=4.4, height=3.0)
    methods = (RESAMPLING, *ABLATIONS)
    width = 0.8 / len(methods)
    for panel, (title, by_method) in zip(panels, columns.items(), strict=False):
        for at, method in enumerate(methods):
            values = [getattr(by_method[method], metric) for metric in _METRICS]
            there = [(x, value) for x, value in enumerate(values) if value is not None]
            bars = panel.bar(
                [x + (at - (len(methods) - 1) / 2) * width for x, _ in there],
                [value for _, value in there],
                width=width,
                color=_COLOURS[at],
                label=method,
            )
            panel.bar_label(bars, fmt=lambda value: f"{value:.2f}".lstrip("0"), fontsize=5)
        panel.set_ylim(0, 1.08)
        panel.set_xticks(range(len(_METRICS)), _METRICS.values(), fontsize=8)
        panel.tick_params(axis="y", labelsize=7)
        _set_title(panel, title, fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=7, frameon=False)
    return _png(figure)


def _panels(num: int, *, width: float, height: float) -> tuple[Figure, ndarray]:
    """A figure with a grid of panels; panels without content are invisible."""
    cols = min(3, num)
    rows = -(-num // cols)
    figure = Figure(figsize=(width * cols, height * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, cols, squeeze=False).ravel()
    for panel in panels[num:]:
        panel.axis("off")
    return figure, panels


def _tinted(
    picture: UInt8[ndarray, "height width 3"],
    mask: Bool[ndarray, "rows cols"] | None,
    colour: tuple[int, int, int],
) -> UInt8[ndarray, "height width 3"]:
    """The picture mixed in equal parts with a colour where the mask is true."""
    if mask is None:
        return picture
    height, width = picture.shape[:2]
    if mask.shape != (height, width):  # of an image with tiles, whose map is not of its picture
        shown = cv2.resize(mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        mask = shown.astype(bool)
    over = picture.copy()
    over[mask] = (picture[mask].astype(np.uint16) + np.array(colour, np.uint16)) // 2
    return over


def _set_title(panel: Axes, title: str, **style: Any) -> None:
    text = drawable(title)
    panel.set_title(text.pop("text"), **style, **text)


def _png(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=130)
    return written.getvalue()
