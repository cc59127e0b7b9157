"""Results against labels: what is read, what is measured, and what is shown to a person."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from vqad import tables
from vqad.evaluation import metrics
from vqad.evaluation.ablations import ABLATIONS
from vqad.evaluation.figures import Shown, ablations, comparison, score_distributions
from vqad.evaluation.ground_truth import Truth, read_truth, root_of_tests
from vqad.evaluation.markdown import text as markdown
from vqad.evaluation.measure import LOG10_EDGES, Measured, distribution, measure, table, telling
from vqad.evaluation.metrics import Metrics
from vqad.evaluation.results import Inspected, read_inspected
from vqad.storage import uris

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
    assert telling(truth, inspected) == [
        ("crack", "best", 2),
        ("crack", "median", 1),
        ("crack", "worst", 0),
        ("dent", "best", 3),
        ("good", "best", 5),
        ("good", "median", 7),
        ("good", "worst", 6),
    ]
    two = truth_of(["crack", "crack"])
    assert [name for _, name, _ in telling(two, inspected_of(two))] == ["best", "worst"]


def test_without_masks_scores_tell_best_from_worst() -> None:
    truth = truth_of(masked=False)
    inspected = inspected_of(truth_of())
    inspected.scores[:3] = [9, 7, 8]
    assert [at for each, _, at in telling(truth, inspected) if each == "crack"] == [0, 2, 1]


def made(folder: Path, *, reject: bool = True) -> tuple[str, str, list[str]]:
    """A data set of three test images and an output that holds their verdicts and maps."""
    data, output = folder / "data", folder / "output"
    names = ["crack/0.png", "crack/1.png", "good/0.png"]
    picture = cv2.imencode(".png", np.zeros((24, 20), np.uint8))[1].tobytes()
    mask = np.zeros((24, 20), np.uint8)
    mask[4:8, 4:8] = 255
    for name in names:
        path = data / "part" / "test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    for at in range(2):
        path = data / "part" / "ground_truth" / "crack" / f"{at}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), mask)
    images = [uris.absolute(str(data / "part" / "test" / name)) for name in names]
    # Two parts, and the images in no order.
    for part, some in enumerate(([2, 0], [1])):
        write(output, images, part, some, rejected=reject and part == 1)
    return str(data), str(output), images


def write(
    output: Path, images: list[str], part: int, some: list[int], *, rejected: bool = False
) -> None:
    rows = [
        {
            **dict.fromkeys(tables.VERDICTS.names, ""),
            **dict.fromkeys(("codes_changed", "width_px", "height_px", "source_bytes"), 1),
            **dict.fromkeys(("source_modified_at", "inspected_at"), 0),
            "image": images[at],
            "category": "part",
            "verdict": "normal",
            "score": float(at),
            "threshold": 1.5,
            "regions": [],
            "model_version": "v",
        }
        for at in some
    ]
    if rejected:
        rows.append(rows[0] | {"image": f"{images[0]}x", "verdict": "reject", "threshold": None})
    maps = [
        {
            "image": images[at],
            "category": "part",
            "model_version": "v",
            "map_height_px": 12,
            "map_width_px": 10,
            "anomaly_map": np.full(120, at, np.float32),
        }
        for at in some
    ]
    for name, found, schema in (
        ("verdicts", rows, tables.VERDICTS),
        ("maps", maps, tables.MAPS),
    ):
        folder = output / name / "part"
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(found, schema=schema)
        pa.parquet.write_table(table, folder / f"part-{part}.parquet")


def test_tables_are_read_sorted_by_image_whatever_their_parts(tmp_path: Path) -> None:
    data, output, images = made(tmp_path)
    found = read_inspected(data, output, "part")
    assert found.images == images
    assert found.scores.tolist() == [0, 1, 2]
    assert found.maps.shape == (3, *SHAPE)
    assert found.maps[:, 0, 0].tolist() == [0, 1, 2]
    assert (found.threshold, found.model_version, found.num_rejected) == (1.5, "v", 1)


def test_what_is_not_in_the_tables_is_named(tmp_path: Path) -> None:
    data, output, images = made(tmp_path)
    (tmp_path / "output" / "maps" / "part" / "part-1.parquet").unlink()
    with pytest.raises(ValueError, match=rf"no anomaly map of {images[1]} in .*--maps all"):
        read_inspected(data, output, "part")
    with pytest.raises(ValueError, match="no verdicts of file:///nowhere/part/test in "):
        read_inspected("/nowhere", output, "part")
    with pytest.raises(ValueError, match=r"no tables in .*; inspect the category first"):
        read_inspected(data, output, "other")


def test_masks_come_at_the_shape_of_the_maps_and_good_images_have_none(tmp_path: Path) -> None:
    data, _, images = made(tmp_path)
    truth = read_truth(data, "part", images, SHAPE)
    assert truth.defect_types == ["crack", "crack", "good"]
    assert truth.masks.sum((1, 2)).tolist() == [4, 4, 0]
    assert truth.masks[0, 2:4, 2:4].all()


def test_a_missing_mask_is_named_and_no_masks_at_all_are_none(tmp_path: Path) -> None:
    data, _, images = made(tmp_path)
    truths = tmp_path / "data" / "part" / "ground_truth"
    (truths / "crack" / "1_mask.png").unlink()
    with pytest.raises(ValueError, match=rf"no mask for {images[1]}: .*crack/1_mask.png"):
        read_truth(data, "part", images, SHAPE)
    (truths / "crack" / "1_mask.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"crack/1_mask.png is no picture"):
        read_truth(data, "part", images, SHAPE)
    for path in sorted(truths.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    truths.rmdir()
    assert read_truth(data, "part", images, SHAPE).masks is None


def test_an_image_that_no_folder_labels_is_named(tmp_path: Path) -> None:
    data, _, images = made(tmp_path)
    alone = uris.join(root_of_tests(data, "part"), "alone.png")
    with pytest.raises(ValueError, match=f"{alone} lies in no folder that names its defect"):
        read_truth(data, "part", [*images, alone], SHAPE)


def test_verdicts_of_two_detectors_are_not_mixed(tmp_path: Path) -> None:
    data, output, _ = made(tmp_path)
    folder = tmp_path / "output" / "verdicts" / "part"
    table = pa.parquet.read_table(folder / "part-0.parquet")
    at = table.column_names.index("model_version")
    other = table.set_column(at, table.field(at), pa.array(["w"] * len(table)))
    pa.parquet.write_table(other, folder / "part-0.parquet")
    with pytest.raises(ValueError, match=r"several part detectors \(v, w\)"):
        read_inspected(data, output, "part")


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
    assert "| bottle | dent |" in text
    assert lines[-1] == "![figures/figure6.png](figures/figure6.png)"


def picture_of(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_the_figures_are_pictures_that_show_what_they_are_given() -> None:
    truth = truth_of()
    inspected = inspected_of(truth)
    counts = distribution(inspected.maps, truth.masks)
    one = score_distributions({"bottle": counts}, {"bottle": 1.0})
    four = score_distributions(dict.fromkeys("abcd", counts), dict.fromkeys("abcd", 1.0))
    assert picture_of(four).shape[1] > 2 * picture_of(one).shape[1]
    moved = score_distributions({"bottle": counts}, {"bottle": 100.0})
    assert not np.array_equal(picture_of(one), picture_of(moved))

    grey = np.full((*SHAPE, 3), 120, np.uint8)
    row = Shown(
        caption="crack, best",
        image=grey,
        truth=truth.masks[0],
        direct=grey,
        restored=grey,
        anomaly_map=inspected.maps[0],
        threshold=1.0,
    )
    two = picture_of(comparison([row, row]))
    assert two.shape[0] > 1.7 * picture_of(comparison([row])).shape[0]
    # Truth is tinted blue, the prediction red; BGR.
    assert (two[..., 0].astype(int) - two[..., 2] > 100).any()
    assert (two[..., 2].astype(int) - two[..., 0] > 100).any()

    methods = ("resampling", *ABLATIONS)
    bars = picture_of(ablations([measured_of(method) for method in methods]))
    # The paper's three colours, as BGR.
    for colour in ((180, 111, 61), (46, 138, 229), (156, 149, 143)):
        assert (np.abs(bars.astype(int) - colour).max(2) <= 2).sum() > 500
