"""Loading trusts no file: what does not match its record, or is absurd, is refused."""

import json
import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.support.random_detectors import assert_refused, detector_of, replace_weights, rewrite
from vqad import detector
from vqad.detection import weights
from vqad.detection.saved_categories import current_version, saved_categories
from vqad.detection.settings import FORMAT_VERSION
from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.storage.folder_names import readable_name


def test_a_category_without_a_detector_is_refused_with_how_to_train_one(models: str) -> None:
    message = f"no detector for category pill in {models}; train one with: vqad train --categories"
    assert_refused(models, message, category="pill")


def test_a_version_that_is_not_there_is_refused_with_its_place(models: str, saved: Path) -> None:
    assert_refused(models, f"{models}/washer/other/detector.json: no such file", version="other")


@pytest.mark.parametrize("name", ["vqvae.safetensors", "prior.safetensors"])
def test_tampered_weights_are_refused(models: str, saved: Path, name: str) -> None:
    data = bytearray((saved / name).read_bytes())
    data[-1] ^= 1
    replace_weights(saved, name, bytes(data), recorded=False)
    assert_refused(models, f"{saved}/{name} does not match its recorded hash and size; restore it")


def test_weights_of_a_tampered_size_are_refused(models: str, saved: Path) -> None:
    rewrite(saved, lambda record: record["files"]["prior.safetensors"].update(bytes=17))
    assert_refused(models, "prior.safetensors does not match its recorded hash and size")


def test_missing_weights_are_refused(models: str, saved: Path) -> None:
    (saved / "prior.safetensors").unlink()
    assert_refused(models, f"{saved}/prior.safetensors: no such file")


def test_a_pickle_in_place_of_weights_is_refused_and_not_executed(
    models: str, saved: Path, tmp_path: Path
) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    data = pickle.dumps(Bomb())
    replace_weights(saved, "vqvae.safetensors", data, recorded=False)
    assert_refused(models, "vqvae.safetensors does not match its recorded hash and size")
    # Not even where the record vouches for it.
    replace_weights(saved, "vqvae.safetensors", data, recorded=True)
    assert_refused(models, f"{saved}/vqvae.safetensors does not fit the recorded network: Error")
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_network_are_refused_though_the_record_vouches(
    models: str, saved: Path
) -> None:
    data = safetensors.torch.save({"encoder.0.weight": torch.zeros(3)})
    replace_weights(saved, "vqvae.safetensors", data, recorded=True)
    assert_refused(models, "vqvae.safetensors does not fit the recorded network: size mismatch")


@pytest.mark.parametrize("content", [b"", b"{'version': 1}", b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("name", ["detector.json", "current.json"])
def test_what_is_not_json_is_refused(models: str, saved: Path, name: str, content: bytes) -> None:
    path = saved / name if name == "detector.json" else saved.parent / name
    path.write_bytes(content)
    assert_refused(models, f"{path} is not JSON; restore it, or train again")


def test_json_of_another_form_is_refused(models: str, saved: Path) -> None:
    (saved / "detector.json").write_text("[1]")
    assert_refused(models, f"{saved}/detector.json is not a JSON object; restore it")


def test_json_without_end_is_not_read(models: str, saved: Path) -> None:
    with (saved / "detector.json").open("ab") as file:
        file.truncate(weights.LARGEST_JSON_BYTES + 1)
    assert_refused(models, "detector.json: 16777217 bytes, more than 16777216")


def test_a_detector_of_the_first_format_is_of_the_plain_form(models: str, saved: Path) -> None:
    def as_of_old(record: dict[str, Any]) -> None:
        record["format_version"] = 1
        for name in ("form", "usual"):
            del record["settings"][name]

    rewrite(saved, as_of_old)
    assert Detector.load(models, "washer").settings.form == "plain"


def test_another_format_version_is_refused_with_both(models: str, saved: Path) -> None:
    newer = FORMAT_VERSION + 1
    rewrite(saved, lambda record: record.update(format_version=newer))
    message = (
        f"{saved} has format version {newer}, this program reads 1 to {FORMAT_VERSION}; train again"
    )
    assert_refused(models, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("settings"), "detector.json, : Input should be a dictionary"),
        (lambda record: record["settings"].pop("eta", record["settings"].pop("kind")), "kind: "),
        (lambda record: record["settings"].update(kind="fluid"), "kind: Input should be 'texture'"),
        (
            lambda record: record["settings"]["resample"].update(eta=1.5),
            "resample: Value error, eta must be in [0, 1), got 1.5",
        ),
        (lambda record: record.pop("files"), "detector.json names no files; train again"),
        (
            lambda record: record["files"].pop("prior.safetensors"),
            "prior.safetensors is not in the detector's record; save the detector again",
        ),
    ],
)
def test_a_record_with_nonsense_in_it_is_refused_by_its_place(
    models: str, saved: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    rewrite(saved, change)
    assert_refused(models, message)


@pytest.mark.parametrize(
    ("network", "name", "largest"),
    [
        ("vqvae", "width", 1024),
        ("vqvae", "num_codes", 65536),
        ("vqvae", "num_residual_blocks", 64),
        ("vqvae", "residual_width", 1024),
        ("prior", "width", 1024),
        ("prior", "num_stages", 64),
        ("prior", "input_reach", 16),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_built(
    models: str,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    network: str,
    name: str,
    largest: int,
) -> None:
    monkeypatch.setattr(detector, "VQVAE", None)
    rewrite(saved, lambda record: record["settings"][network].update({name: 10**9}))
    message = f"{network}: Value error, {name} must be in [1, {largest}], got 1000000000"
    assert_refused(models, message)


def test_sizes_that_are_absurd_together_are_refused_before_memory_is_taken(
    models: str, saved: Path
) -> None:
    huge = {"width": 1024, "num_stages": 64, "reach": 16}
    rewrite(saved, lambda record: record["settings"]["prior"].update(huge))
    start_s = time.monotonic()
    assert_refused(models, "bytes of weights, more than 1073741824; restore it, or train again")
    # The weights, more than 300 GB, would not fit; nor could they be drawn in this time.
    assert time.monotonic() - start_s < 10


def test_a_detector_of_another_category_is_refused(models: str, saved: Path) -> None:
    saved.parent.rename(saved.parents[1] / "pill")
    message = f"contains a detector of washer, version {saved.name}; move the folder back"
    assert_refused(models, message, category="pill")


def test_a_detector_under_another_versions_name_is_refused(models: str, saved: Path) -> None:
    saved.rename(saved.parent / "renamed")
    message = f"{models}/washer/renamed contains a detector of washer, version {saved.name}"
    assert_refused(models, message, version="renamed")


@pytest.mark.parametrize("trick", ["../x", "..", "/etc", "a/../b", "", 7, None, ["a"]])
def test_a_current_version_that_is_no_plain_name_is_refused(
    models: str, saved: Path, trick: Any
) -> None:
    current = saved.parent / "current.json"
    current.write_text(json.dumps({"version": trick}))
    assert_refused(models, f'{current} names no version; write {{"version": "NAME"}} into it')


@pytest.mark.parametrize("trick", ["../x", "..", "/etc", "a/b"])
def test_names_that_lead_out_of_their_folder_are_refused(
    models: str, saved: Path, trick: str
) -> None:
    message = f"no detector can be called 'washer', version {trick!r}"
    assert_refused(models, message, version=trick)
    with pytest.raises(DetectorError, match=f"no detector for category {re.escape(trick)} in "):
        current_version(models, trick)


@pytest.mark.parametrize(
    "category", ["../x", "..", "/etc", "a/b", "Größe 螺丝", ".hidden", "螺" * 100, "x" * 300]
)
def test_any_category_has_a_folder_of_its_own_below_the_models(
    tmp_path: Path, category: str
) -> None:
    models = tmp_path / "a" / "models"
    before = detector_of(category=category)
    before.save(str(models))
    (folder,) = models.iterdir()
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["models"]
    assert folder.name == readable_name(category)
    assert Detector.load(str(models), category).settings.category == category
    assert saved_categories(str(models)) == [category]


def test_saved_categories_passes_over_what_is_no_detector_in_use(models: str, saved: Path) -> None:
    (Path(models) / ".runs" / "monday").mkdir(parents=True)
    (Path(models) / "notes.txt").write_text("ours")
    (Path(models) / "begun" / "20260101T000000Z-00000000").mkdir(parents=True)
    assert saved_categories(models) == ["washer"]
    saved.parent.rename(Path(models) / "other")
    with pytest.raises(DetectorError, match="contains a detector of washer; move the folder back"):
        saved_categories(models)
