"""Whole commands: the demo's night, training that fails in part or lies on S3, evaluation."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq
import pytest
import torch

from tests.support.commands import Demo, Ended
from tests.support.finished_inspection import ON_RAY, Finished, verdicts
from vqad import synthetic
from vqad.detector import Detector
from vqad.evaluation.ablations import ABLATIONS, LIKELIHOOD, PLAIN
from vqad.evaluation.baselines import LOSSES
from vqad.evaluation.local_baseline import LOCAL
from vqad.evaluation.witness_ablations import is_variant
from vqad.images import decoding, listing
from vqad.images.tensors import to_images, to_tensor
from vqad.model.resample_reference import agreement, fixed_point, jump, raster
from vqad.storage import files
from vqad.training.presets import PRESETS

pytestmark = ON_RAY
Vqad = Callable[..., Ended]
CATEGORIES = ("fabric", "washer", "ampoule")


def test_the_demo_leaves_its_folders_and_tells_defects_from_good(demo: Demo) -> None:
    assert demo.ended.code == 0, demo.ended.err
    found = demo.ended.summary
    assert found["listed"] == found["images"] == 3 * 16
    assert found["skipped"] == found["reject"] == 0
    assert found["normal"] + found["defect"] == found["images"]
    assert found["image_accuracy"] >= 0.8
    names = {each.name for each in demo.folder.iterdir()}
    assert names == {"data", "models", "output", "evaluation", "sheets"}
    assert "Traceback" not in demo.ended.err
    page = demo.folder / "output" / "report" / "index.html"
    assert page.stat().st_size > 50_000
    assert demo.ended.err.rstrip().endswith(f"look at the page {page}")
    for name in ("models", "sheets"):
        assert any((demo.folder / name).iterdir())


def test_the_demo_trained_one_detector_a_category_and_recorded_how(demo: Demo) -> None:
    for category in CATEGORIES:
        settings = Detector.load(str(demo.folder / "models"), category).settings
        assert settings.kind == synthetic.KINDS[category]
        assert settings.found.num_images == 60
        assert len(settings.found.held_out) == 6


@pytest.mark.parametrize("category", CATEGORIES)
def test_on_fitted_detectors_every_algorithm_gives_the_codes_of_the_oracle(
    demo: Demo, category: str
) -> None:
    detector = Detector.load(str(demo.folder / "models"), category)
    listed = listing.list_images(str(demo.folder / "data" / category / "test"))[::2]
    size_px = detector.settings.vqvae.image_size_px
    pictures = [
        decoding.decode(files.read_bytes(each.image, max_bytes=2**20), size_px=size_px).pixels
        for each in listed
    ]
    options = detector.settings.resample
    with torch.inference_mode():
        codes = detector.vqvae.encode(to_images(to_tensor(decoding.stack(pictures))))
        oracle = raster(detector.prior, codes, options).codes
        assert not torch.equal(oracle, codes)
        fast = detector.resample(codes)
        for found in (
            jump(detector.prior, codes, options).codes,
            fixed_point(detector.prior, codes, options).codes,
            fast.codes,
        ):
            assert agreement(detector.prior, codes, oracle, found, options).num_different == 0
    changed = (oracle != codes).flatten(1).any(1)
    assert (fast.passes[~changed] == 1).all()
    # A run is half of these small maps, so a wrong guess costs more than on 32 x 32 cells.
    assert fast.passes[changed].mean() <= 2.5


def test_bench_resample_finds_the_codes_of_the_oracle_and_says_what_they_cost(
    demo: Demo, vqad: Vqad
) -> None:
    ended = vqad(
        *("bench", "resample", "--models", demo.folder / "models", "--category", "ampoule"),
        *("--archive", demo.folder / "data" / "ampoule" / "test", "--limit", 16),
    )
    assert ended.code == 0, ended.err
    found = ended.summary
    assert found["identical"] is True
    assert found["images"] == 16
    assert 0 < found["changed_images"] <= 16
    assert 1 <= found["passes_mean"] <= found["passes_changed_mean"] <= 2.5
    assert found["passes_changed_mean"] <= found["passes_max"]
    assert found["times_faster_than_raster"] > found["times_faster_than_jump"] > 0
    for name in ("in_runs", "jump", "raster"):
        assert f"\n{name}" in ended.err


def test_bench_inspect_measures_the_stages_and_both_wholes(vqad: Vqad, local_ray: None) -> None:
    sizes = ("--preset", "tiny", "--limit", 20, "--batch-size", 4, "--source-size-px", 128)
    ended = vqad("bench", "inspect", *sizes)
    assert ended.code == 0, ended.err
    found = ended.summary
    assert found["images"] == 20
    assert set(found["images_per_s"]) == {
        *("fetch", "decode", "encode", "prior, one pass", "resample"),
        *("decode pair", "filter", "score"),
    }
    share = found["pipeline_images_per_s"] / found["in_process_images_per_s"]
    assert found["pipeline_share"] == pytest.approx(share, abs=1e-3)  # rounded
    assert 0 < found["model_share_of_matrix_product"] < 1.5
    assert found["start_up_seconds"] > 0
    assert found["peak_bytes"] > 2**20
    assert "a random detector of preset tiny" in ended.err


def test_bench_train_times_the_stages_and_projects_for_the_categories(vqad: Vqad) -> None:
    sizes = ("--preset", "tiny", "--num-steps", 2, "--num-images", 100)
    ended = vqad("bench", "train", *sizes, "--categories", "carpet,bottle")
    assert ended.code == 0, ended.err
    found = ended.summary
    rates = found["images_per_s"]
    assert set(rates) == {"vqvae", "encode", "prior", "calibrate"}
    tiny = PRESETS["tiny"]
    fits = sum(
        fit.num_steps * fit.batch_size / rates[name]
        for name, fit in (("vqvae", tiny.fit_vqvae), ("prior", tiny.fit_prior))
    )
    rest = 90 * tiny.fit_prior.variations_per_image / rates["encode"] + 10 / rates["calibrate"]
    for category in ("carpet", "bottle"):
        assert found["category_seconds"][category] == pytest.approx(fits + rest, rel=0.02)
    total_s = sum(found["category_seconds"].values())
    assert found["projected_seconds"] == pytest.approx(total_s, rel=0.01)
    assert all(0 < share < 1.5 for share in found["share_of_matrix_product"].values())
    assert re.search(r"^vqvae +[\d.]+ images/s$", ended.err, re.MULTILINE)


def test_training_again_skips_what_is_finished(demo: Demo, vqad: Vqad) -> None:
    kinds = [f"--kind={category}={synthetic.KINDS[category]}" for category in CATEGORIES]
    paths = ("--data", demo.folder / "data", "--models", demo.folder / "models")
    ended = vqad("train", *paths, "--preset", "tiny", *kinds)
    assert ended.code == 0
    assert sorted(ended.summary["skipped"]) == sorted(CATEGORIES)
    assert (ended.summary["trained"], ended.summary["failed"]) == ([], {})


def test_a_category_that_fails_is_named_with_its_reason_and_exit_code_1(
    finished: Finished, tmp_path: Path, vqad: Vqad
) -> None:
    for name in ("single", "broken"):
        (tmp_path / "data" / name).mkdir(parents=True)
    shutil.copy(finished.archive / "alone.png", tmp_path / "data" / "single" / "1.png")
    (tmp_path / "data" / "broken" / "1.png").write_bytes(b"text")
    ended = vqad(
        *("train", "--data", tmp_path / "data", "--models", tmp_path / "models"),
        *("--preset", "tiny", "--categories", "single,broken"),
        *[f"--kind={name}=object" for name in ("single", "broken")],
    )
    assert ended.code == 1
    failed = ended.summary["failed"]
    assert set(failed) == {"single", "broken"}
    assert failed["single"].startswith("1 images to learn from: at least 10 are needed")
    assert "none of 1 images can be read; the first: " in failed["broken"]
    assert "unreadable: not a picture of any known format" in failed["broken"]
    for category, reason in failed.items():
        assert f"failed: {category}: {reason}" in ended.err.splitlines()
    assert "Traceback" not in ended.err


@pytest.fixture
def evaluated(finished: Finished, tmp_path: Path) -> tuple[Path, tuple[object, ...]]:
    """The drawn images without the odd ones, and the arguments of their evaluation."""
    data = tmp_path / "data"
    shutil.copytree(
        finished.archive, data, symlinks=True, ignore=shutil.ignore_patterns("odd", "alone.png")
    )
    return data, ("evaluate", "--data", data, "--models", finished.models)


def test_evaluating_finished_verdicts_equals_inspecting_for_it(
    evaluated: tuple[Path, tuple[object, ...]], finished: Finished, tmp_path: Path, vqad: Vqad
) -> None:
    data, line = evaluated
    itself = vqad(*line, "--output", tmp_path / "itself")
    assert itself.code == 0, itself.err
    assert set(itself.summary["categories"]) == {"fabric", "washer"}
    record = json.loads((tmp_path / "itself" / "evaluation.json").read_text())
    assert {name: record[name] for name in ("mean", "categories", "failed")} == itself.summary
    assert itself.summary["failed"] == {}
    assert {each["method"] for each in record["measured"]} == {"resampling"}
    left = {path.name for path in (tmp_path / "itself" / "figures").iterdir()}
    assert left == {"figure6.png", "figure7-fabric.png", "figure7-washer.png"}
    inspected = vqad(
        *("inspect", "--archive", data, "--include", "*/test/*"),
        *("--models", finished.models, "--output", tmp_path / "output"),
    )
    assert inspected.code == 0
    given = ("--output", tmp_path / "given", "--verdicts", tmp_path / "output")
    read = vqad(*line, *given, "--categories", "fabric,washer")
    assert read.code == 0
    for category, measured in itself.summary["categories"].items():
        assert read.summary["categories"][category] == pytest.approx(measured, abs=1e-6)


@pytest.mark.parametrize("labels", ["shuffled", "absent"])
def test_labels_change_figures_but_no_detector_verdict_or_map(
    labels: str, evaluated: tuple[Path, tuple[object, ...]], tmp_path: Path, vqad: Vqad
) -> None:
    data, line = evaluated
    models = Path(str(line[-1]))
    line = (*line, "--output", tmp_path / "out", "--categories", "fabric")
    before = vqad(*line)
    inspected = tmp_path / "out" / "inspected"
    rows, maps, detectors = verdicts(inspected), maps_of(inspected), contents_of(models)
    masks = data / "fabric" / "ground_truth"
    shuffle(masks) if labels == "shuffled" else shutil.rmtree(masks)
    # Anew, so that the verdicts are made in sight of the wrong truth.
    shutil.rmtree(inspected)
    after = vqad(*line)
    changing = ("inspected_at", "run")
    assert [{k: v for k, v in row.items() if k not in changing} for row in rows] == [
        {k: v for k, v in row.items() if k not in changing} for row in verdicts(inspected)
    ]
    assert maps_of(inspected) == maps
    assert contents_of(models) == detectors
    assert after.summary["mean"]["image_auroc"] == before.summary["mean"]["image_auroc"]
    assert after.summary["mean"]["pixel_auroc"] != before.summary["mean"]["pixel_auroc"]
    assert (after.summary["mean"]["pixel_auroc"] is None) == (labels == "absent")


def shuffle(masks: Path) -> None:
    """Give each mask of a category the contents of some other."""
    paths = sorted(masks.rglob("*.png"))
    contents = [path.read_bytes() for path in paths]
    random.Random(1).shuffle(contents)
    assert contents != [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)


def contents_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_baselines_and_ablations_are_measured_beside_the_method_whatever_the_labels(
    demo: Demo, tmp_path: Path, vqad: Vqad
) -> None:
    data = tmp_path / "data"
    shutil.copytree(demo.folder / "data" / "ampoule", data / "ampoule")
    line = ("evaluate", "--data", data, "--models", demo.folder / "models", "--output", tmp_path)
    first = vqad(*line, "--baselines", "--ablations")
    assert first.code == 0, first.err
    rows = {row["method"]: row for row in tables_of(tmp_path)}
    expected = ["resampling", *LOSSES, LOCAL, *ABLATIONS]
    assert [each for each in rows if not is_variant(each)] == expected
    # The network with the same maps, unfiltered, knows the same images.
    assert rows["no bilateral filter"]["image_auroc"] == pytest.approx(
        rows[PLAIN]["image_auroc"], abs=0.1
    )
    # Networks of few steps restore ampoules badly, so their distance from the input says little.
    of_the_input = (*LOSSES, "input-output residuals")
    assert set(of_the_input) <= set(rows)
    for method, row in rows.items():
        assert row["num_good"] == row["num_defect"] == 8
        assert method in of_the_input or row["image_auroc"] > 0.5, method
        assert (row["pixel_auroc"] is None) == (method == LIKELIHOOD)
    for name in ("figure6", "figure7-ampoule", "figure8"):
        picture = cv2.imread(str(tmp_path / "figures" / f"{name}.png"))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 10
    text = (tmp_path / "evaluation.md").read_text()
    head = (
        "| category | resampling, here | AE-L2, here | AE-SSIM, here | local statistics, here "
        "| the paper's | CAVGA-Du |"
    )
    assert head in text

    fitted = contents_of(tmp_path / "baselines")
    shuffle(data / "ampoule" / "ground_truth")
    again = vqad(*line, "--baselines", "--ablations")
    assert again.code == 0, again.err
    assert contents_of(tmp_path / "baselines") == fitted
    assert " fitted after " in first.err
    assert " fitted after " not in again.err
    for row in tables_of(tmp_path):
        same = ("threshold", "image_accuracy", "image_auroc", "image_f1", "image_f1max")
        assert [row[name] for name in same] == [rows[row["method"]][name] for name in same]
        if row["pixel_auroc"] is not None:
            assert row["pixel_auroc"] != rows[row["method"]]["pixel_auroc"]


def tables_of(output: Path) -> list[dict[str, Any]]:
    """Rows of an evaluation that are of a whole category."""
    rows = pq.read_table(output / "evaluation.parquet").to_pylist()
    return [row for row in rows if row["category"] != "mean" and not row["defect_type"]]


def maps_of(output: Path) -> dict[str, list[float]]:
    (part,) = (output / "maps" / "fabric").iterdir()
    table = pq.read_table(part, columns=["image", "anomaly_map"])
    return dict(zip(table["image"].to_pylist(), table["anomaly_map"].to_pylist(), strict=True))


def test_options_come_from_flags_then_environment_then_file(
    finished: Finished, tmp_path: Path, vqad: Vqad, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "night.toml").write_text(
        f'archive = "{tmp_path}/file"\nmodels = "{finished.models}"\noutput = "{tmp_path}/output"\n'
    )
    line = ("inspect", "--config", tmp_path / "night.toml")
    assert f"{tmp_path}/file: no such" in vqad(*line).err
    monkeypatch.setenv("VQAD_ARCHIVE", f"{tmp_path}/environment")
    assert f"{tmp_path}/environment: no such" in vqad(*line).err
    assert f"{tmp_path}/flag: no such" in vqad(*line, "--archive", tmp_path / "flag").err
