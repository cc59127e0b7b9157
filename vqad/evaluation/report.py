"""The results of an evaluation, written as evaluation.{md,parquet,json} and figures."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from jaxtyping import Int64
from numpy import ndarray

from vqad.evaluation import markdown, measure
from vqad.evaluation.ground_truth import Truth
from vqad.evaluation.labelled_images import LabelledImages
from vqad.evaluation.measure import Measured
from vqad.evaluation.results import Inspected
from vqad.inspection import sink
from vqad.storage import files, json_objects, uris


@dataclass(kw_only=True)
class Evaluation:
    """The results of an evaluation."""

    measured: list[Measured] = field(default_factory=list)
    about: list[str] = field(default_factory=list)  # lines on how it was measured
    pictures: dict[str, bytes] = field(default_factory=dict)  # PNGs by name
    failed: dict[str, str] = field(default_factory=dict)  # the reason, by category
    # Pixels by their score, by category with masks; see `measure.distribution`.
    distributions: dict[str, Int64[ndarray, "2 bins"]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Metrics of the method itself: their mean, and those of each category."""
        own = [each for each in self.measured if each.method == measure.RESAMPLING]
        return {
            "mean": asdict(measure.mean_of(own, measure.RESAMPLING)),
            "categories": {each.category: asdict(each.metrics) for each in own},
            "failed": self.failed,
        }


def write(output: str, data: str, found: Evaluation) -> str:
    """Write tables and figures, the JSON last; returns the URI of evaluation.md."""
    for name, picture in found.pictures.items():
        files.write_bytes(uris.join(output, "figures", name), picture)
    sink.write_table(uris.join(output, "evaluation.parquet"), measure.table(found.measured))
    uri = uris.join(output, "evaluation.md")
    files.write_bytes(uri, _markdown(data, found).encode(errors="backslashreplace"))
    record = {**found.summary(), "measured": [each.as_dict() for each in found.measured]}
    content = json_objects.encoded(record)
    files.write_bytes(uris.join(output, "evaluation.json"), content)
    return uri


def _markdown(data: str, found: Evaluation) -> str:
    failed = [f"{name} could not be evaluated: {reason}" for name, reason in found.failed.items()]
    return markdown.text(
        found.measured,
        about=[
            f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {data}.",
            *found.about,
            *failed,
        ],
        pictures=[f"figures/{name}" for name in sorted(found.pictures)],
    )


def about(inspected: Inspected, truth: Truth, labelled: LabelledImages) -> list[str]:
    """Lines on the test images of a category: numbers, resolution, and what is not measured."""
    category, num_defect = labelled.category, int(truth.is_defect.sum())
    height_px, width_px = inspected.maps.shape[1:]
    missing = f"{inspected.num_missing} without a verdict, " if inspected.num_missing else ""
    return [
        f"{category}: detector {inspected.model_version}, {len(truth.images) - num_defect} good "
        f"and {num_defect} defective test images, {inspected.num_rejected} rejected, {missing}"
        f"metrics at {width_px}x{height_px} px.",
        *(f"{category}: {each}." for each in (*_about_masks(truth), *labelled.limits)),
    ]


def _about_masks(truth: Truth) -> list[str]:
    if truth.masks is None or truth.source_share is None:
        return []
    lines = [
        "a pixel of the map is defective if a mask covers any part of it: "
        f"{truth.masks.mean():.2%} of the pixels are, against {truth.source_share:.2%} in the "
        "masks at their own size"
    ]
    if truth.empty:
        lines.append(
            f"{len(truth.empty)} of {int(truth.is_defect.sum())} defective images have an empty "
            f"mask, such as {truth.empty[0]}"
        )
    return lines
