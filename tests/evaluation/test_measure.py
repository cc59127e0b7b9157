"""Results are measured against labels, and the tables and examples for a person follow."""

from collections.abc import Sequence

import numpy as np
import pytest

from vqad import tables
from vqad.evaluation import metrics
from vqad.evaluation.ground_truth import Truth
from vqad.evaluation.markdown import text as markdown
from vqad.evaluation.measure import LOG10_EDGES, Measured, distribution, examples, measure, table
from vqad.evaluation.metrics import Metrics
from vqad.evaluation.results import Inspected

SHAPE = (12, 10)
TYPES = ["crack", "crack", "crack", "dent", "good", "good", "good", "good"]


def truth_of(types: Sequence[str] = TYPES, *, masked: bool = True) -> Truth:
    masks = np.zeros((len(types), *SHAPE), bool)
    for mask, each in zip(masks, types, strict=True):
        mask[2:6, 2:6] = each != "good"
    names = [f"file:///data/part/test/{each}/{at}.png" for at, each in enumerate(types)]
    return Truth(images=names, defect_types=list(types), masks=masks if masked else None)


def inspected_of(truth: Truth, seed: int = 0) -> Inspected:
    """Maps that cover more of the truth the later the image comes."""
    rng = np.random.default_rng(seed)
    maps = rng.uniform(0, 0.5, (len(truth.images), *SHAPE)).astype(np.float32)
    for at, each in enumerate(truth.defect_types):
        if each != "good":
            maps[at, 2:6, 2 : 3 + at] = 50
    return Inspected(
        images=truth.images,
        sizes_px=[(20, 20)] * len(maps),
        shapes=[each.shape for each in maps],
        scores=maps.max((1, 2)).astype(float),
        maps=maps,
        threshold=1.0,
        model_version="20260101T000000Z-00000000",
        num_rejected=1,
    )


def measured_of(method: str = "resampling", category: str = "bottle") -> Measured:
    truth = truth_of()
    inspected = inspected_of(truth)
    return measure(
        truth,
        inspected.scores,
        None if method.startswith("likelihood") else inspected.maps,
        category=category,
        method=method,
        threshold=1.0,
        num_rejected=1,
    )


def test_all_images_and_each_defect_type_with_the_good_ones_are_measured() -> None:
    truth, found = truth_of(), measured_of()
    inspected = inspected_of(truth)
    assert (found.num_good, found.num_defect, found.num_rejected) == (4, 4, 1)
    assert list(found.by_type) == ["crack", "dent"]
    for defect_type, of_type in found.by_type.items():
        some = np.array([each in ("good", defect_type) for each in TYPES])
        assert of_type == metrics.evaluate(
            inspected.scores[some],
            truth.is_defect[some],
            inspected.maps[some],
            truth.masks[some],
            threshold=1.0,
        )
    assert found.by_type["crack"].pro < found.by_type["dent"].pro
    assert found.metrics.pro == pytest.approx(
        (3 * found.by_type["crack"].pro + found.by_type["dent"].pro) / 4
    )


def test_the_table_has_a_row_for_each_category_method_type_and_for_the_mean() -> None:
    found = table([measured_of(), measured_of("AE-L2"), measured_of(category="pill")])
    assert found.schema.equals(tables.EVALUATION, check_metadata=True)
    rows = [(row["category"], row["method"], row["defect_type"]) for row in found.to_pylist()]
    assert rows == [
        *(("bottle", "resampling", each) for each in ("", "crack", "dent")),
        *(("bottle", "AE-L2", each) for each in ("", "crack", "dent")),
        *(("pill", "resampling", each) for each in ("", "crack", "dent")),
        ("mean", "resampling", ""),
        ("mean", "AE-L2", ""),
    ]
    assert [row["num_defect"] for row in found.to_pylist()][-2:] == [8, 4]
    for name in Metrics.__dataclass_fields__:
        assert name in found.column_names


def test_the_distribution_counts_every_pixel_once_and_zeros_apart() -> None:
    maps = np.zeros((2, 4, 5), np.float32)
    maps[0, 0] = [1e-9, 0.5, 1, 300, 441.6]
    masks = np.zeros(maps.shape, bool)
    masks[0, 0, 3:] = masks[1, 0, 0] = True
    found = distribution(maps, masks)
    assert found.sum(1).tolist() == [37, 3]
    assert found[:, 0].tolist() == [34, 1]
    assert found[0, 1] == 1  # what is below the first edge counts in the first bin
    assert found[1, -1] == 1
    at = np.searchsorted(LOG10_EDGES, np.log10(0.5))
    assert found[0, at] == 1


def test_best_median_and_worst_of_each_type_are_shown_none_twice() -> None:
    truth = truth_of()
    inspected = inspected_of(truth)
    inspected.scores[4:] = [0.3, 0.1, 0.4, 0.2]
    # The third crack is covered best, the first worst; of good ones the lowest score is best.
    assert examples(truth, inspected) == [
        ("crack", "best", 2),
        ("crack", "median", 1),
        ("crack", "worst", 0),
        ("dent", "best", 3),
        ("good", "best", 5),
        ("good", "median", 7),
        ("good", "worst", 6),
    ]
    two = truth_of(["crack", "crack"])
    assert [name for _, name, _ in examples(two, inspected_of(two))] == ["best", "worst"]


def test_without_masks_images_are_ordered_by_their_score() -> None:
    truth = truth_of(masked=False)
    inspected = inspected_of(truth_of())
    inspected.scores[:3] = [9, 7, 8]
    assert [at for each, _, at in examples(truth, inspected) if each == "crack"] == [0, 2, 1]


def test_the_markdown_sets_ours_beside_every_column_of_the_paper() -> None:
    rows = [measured_of(), measured_of("AE-L2"), measured_of(category="tile_of_ours")]
    text = markdown(rows, about=["Measured."], pictures=["figures/figure6.png"])
    lines = text.splitlines()
    at = lines.index("## Table 3: pixel AUROC")
    own = rows[0].metrics.pixel_auroc
    assert lines[at + 2 : at + 7] == [
        "| category | resampling, here | AE-L2, here | the paper's | VAE with attention | AE-SSIM "
        "| AE-L2 | AnoGAN | CNNFD |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| bottle | {own:.3f} | {own:.3f} | 0.95 | 0.87 | 0.93 | 0.86 | 0.86 | 0.78 |",
        f"| tile_of_ours | {own:.3f} | - | - | - | - | - | - | - |",
        f"| mean | {own:.3f} | {own:.3f} | 0.94 | 0.86 | 0.87 | 0.82 | 0.74 | 0.78 |",
    ]
    assert "## Ablations" not in text
    at = lines.index("## All metrics")
    assert lines[at + 2].endswith("| false_alarm_rate | recall |")
    assert ["|".join(each.split("|")[:3]).strip() for each in lines[at + 4 : at + 11]] == [
        *("| bottle | resampling", "| bottle | AE-L2", "| tile_of_ours | resampling"),
        *("| mean | resampling", "| mean | AE-L2", "| worst | resampling", "| worst | AE-L2"),
    ]
    assert "| bottle | dent |" in text
    assert lines[-1] == "![figures/figure6.png](figures/figure6.png)"
