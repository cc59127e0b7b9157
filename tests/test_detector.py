"""A detector judges alike alone and in company, before and after storage, and trusts no file."""

import hashlib
import json
import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.model.test_vqvae import CONFIG, model_of
from tests.training.test_networks import PRIOR, drawn_pixels
from vqad import detector
from vqad.detection import weights
from vqad.detection.fit_record import FitRecord
from vqad.detection.saved_categories import saved_categories
from vqad.detection.settings import FORMAT_VERSION, Settings
from vqad.detection.weights import DetectorError
from vqad.detector import Detector, Inspection, current_version
from vqad.images.decoding import PREPROCESSING
from vqad.images.tensors import to_images, to_tensor
from vqad.model.pixelsnail import PixelSNAIL, PixelSNAILConfig
from vqad.model.resample import ResampleOptions
from vqad.storage import errors, files, models_layout, uris
from vqad.storage.folder_names import readable_name


def pictures(num: int = 8) -> Tensor:
    return to_images(to_tensor(drawn_pixels(num)))


def detector_of(*, eta: float = 0.02, seed: int = 0, **changes: Any) -> Detector:
    """A detector of nothing in particular, with a prior of strong opinions, so codes change."""
    vqvae = model_of(CONFIG, seed)
    prior = PixelSNAIL(PRIOR)
    with torch.no_grad():
        vqvae.codebook.start(vqvae.encoder(pictures() * 2 - 1), torch.Generator().manual_seed(0))
        # Latents of random weights lie close together; the decoder shall see them apart.
        vqvae.decoder[0].weight.mul_(30)
        prior.output[-1].weight.mul_(60)
        prior.embedding.weight.mul_(3)
    settings = Settings(
        **{
            "category": "washer",
            "kind": "rotatable_object",
            "vqvae": CONFIG,
            "prior": PRIOR,
            "resample": ResampleOptions(eta=eta),
            "threshold": 2.5,
            "minimum_area_px": 4,
            "found": FitRecord(held_out=["a.png"], options={"seed": 0}),
            **changes,
        }
    )
    return Detector(vqvae, prior, settings)


def assert_equal_bits(one: Inspection, other: Inspection) -> None:
    assert torch.equal(one.codes, other.codes)
    assert torch.equal(one.restored_codes, other.restored_codes)
    assert (one.scores, one.verdicts) == (other.scores, other.verdicts)
    np.testing.assert_array_equal(one.anomaly_maps, other.anomaly_maps)


@pytest.fixture
def models(tmp_path: Path) -> str:
    return str(tmp_path / "models")


@pytest.fixture
def saved(models: str) -> Path:
    """Folder of a saved detector of washers."""
    return Path(models, "washer", detector_of().save(models))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads((folder / "detector.json").read_text())
    change(record)
    (folder / "detector.json").write_text(json.dumps(record))


def replace_weights(folder: Path, name: str, data: bytes, *, recorded: bool) -> None:
    (folder / name).write_bytes(data)
    if recorded:
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        rewrite(folder, lambda record: record["files"].update({name: entry}))


def assert_refused(models: str, message: str, **which: str) -> None:
    with pytest.raises(DetectorError, match=re.escape(message)):
        Detector.load(models, which.get("category", "washer"), version=which.get("version", ""))


def test_the_detector_of_these_tests_does_find_something() -> None:
    found = detector_of().inspect(pictures())
    assert min(found.codes_changed) > 0
    assert min(found.scores) > 1
    assert len(set(found.scores)) == 8


def test_saved_and_loaded_gives_equal_bits(models: str) -> None:
    before = detector_of()
    version = before.save(models)
    after = Detector.load(models, "washer")
    assert after.version == before.version == version == current_version(models, "washer")
    assert after.settings == before.settings
    assert_equal_bits(before.inspect(pictures()), after.inspect(pictures()))


def test_a_detector_under_a_file_uri_is_the_same_one(tmp_path: Path) -> None:
    models = uris.absolute(str(tmp_path / "with space"))
    before = detector_of(category="metal nut")
    before.save(models)
    after = Detector.load(models, "metal nut")
    assert_equal_bits(before.inspect(pictures()), after.inspect(pictures()))
    assert (tmp_path / "with space" / "metal nut" / "current.json").is_file()


def test_the_record_holds_all_settings_and_the_preprocessing(saved: Path) -> None:
    record = json.loads((saved / "detector.json").read_text())
    assert record["format_version"] == FORMAT_VERSION
    assert record["version"] == saved.name
    assert record["settings"]["preprocessing"] == PREPROCESSING
    assert record["settings"]["vqvae"]["num_codes"] == 16
    assert record["settings"]["resample"]["eta"] == 0.02
    assert record["settings"]["found"]["held_out"] == ["a.png"]
    names = {"vqvae.safetensors", "prior.safetensors"}
    assert {each.name for each in saved.iterdir()} == {*names, "detector.json"}
    for name in names:
        data = (saved / name).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        assert record["files"][name] == {"sha256": digest, "bytes": len(data)}


def test_a_version_is_a_time_and_eight_digits_of_the_weights_hash(saved: Path) -> None:
    saved_weights = [(saved / name).read_bytes() for name in models_layout.WEIGHTS]
    digest = hashlib.sha256(b"".join(saved_weights)).hexdigest()
    assert re.fullmatch(r"\d{8}T\d{6}Z-" + digest[:8], saved.name)


def test_what_is_in_force_is_written_last(models: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = files.write_bytes

    def note(uri: str, data: bytes) -> None:
        written.append(uri.rpartition("/")[2])
        write(uri, data)

    monkeypatch.setattr(files, "write_bytes", note)
    detector_of().save(models)
    assert written[-1] == "current.json"
    assert sorted(written[:-1]) == ["detector.json", "prior.safetensors", "vqvae.safetensors"]


def test_a_save_that_breaks_off_leaves_the_older_version_in_force(
    models: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_bytes

    def fail_at_the_record(uri: str, data: bytes) -> None:
        if uri.endswith("detector.json"):
            raise errors.ArchiveError("disk full")
        write(uri, data)

    monkeypatch.setattr(files, "write_bytes", fail_at_the_record)
    with pytest.raises(errors.ArchiveError, match="disk full"):
        detector_of(seed=1).save(models)
    assert Detector.load(models, "washer").version == saved.name


def test_an_older_version_is_put_back_by_editing_current_json(models: str, saved: Path) -> None:
    newer = detector_of(seed=1).save(models)
    assert current_version(models, "washer") == newer != saved.name
    (saved.parent / "current.json").write_text(json.dumps({"version": saved.name}))
    assert Detector.load(models, "washer").version == saved.name
    found = Detector.load(models, "washer").inspect(pictures())
    assert_equal_bits(found, detector_of().inspect(pictures()))
    # And any version can be had by its name.
    assert Detector.load(models, "washer", version=newer).version == newer


def test_a_batch_of_eight_gives_what_eight_batches_of_one_give() -> None:
    washer, images = detector_of(), pictures()
    together = washer.inspect(images)
    alone = [washer.inspect(image[None]) for image in images]
    assert torch.equal(together.codes, torch.cat([each.codes for each in alone]))
    assert torch.equal(together.restored_codes, torch.cat([each.restored_codes for each in alone]))
    assert together.codes_changed == [each.codes_changed[0] for each in alone]
    maps = [each.anomaly_maps[0] for each in alone]
    np.testing.assert_allclose(together.anomaly_maps, maps, atol=1e-3)
    scores = [each.scores[0] for each in alone]
    np.testing.assert_allclose(together.scores, scores, atol=1e-3)


def test_nothing_unlikely_gives_maps_of_exactly_zero_and_decodes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    washer = detector_of(eta=0.0)

    def decode(codes: Tensor) -> Tensor:
        raise AssertionError(f"decoded {len(codes)} maps")

    monkeypatch.setattr(washer.vqvae, "decode", decode)
    found = washer.inspect(pictures())
    assert torch.equal(found.codes, found.restored_codes)
    assert found.codes_changed == [0] * 8
    assert not np.any(found.anomaly_maps)
    assert [each.dtype for each in found.anomaly_maps] == [np.float32] * 8
    assert (found.scores, found.verdicts) == ([0.0] * 8, ["normal"] * 8)


def test_only_images_of_which_a_code_changed_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    washer = detector_of()
    codes = washer.vqvae.encode(pictures())
    restored = codes.clone()
    restored[2, 1, 1] = (restored[2, 1, 1] + 1) % 16
    decoded: list[int] = []
    decode = washer.vqvae.decode

    def note(codes: Tensor) -> Tensor:
        decoded.append(len(codes))
        return decode(codes)

    monkeypatch.setattr(washer.vqvae, "decode", note)
    maps = washer.anomaly_maps(codes, restored)
    assert decoded == [2]
    assert [bool(each.any()) for each in maps] == [at == 2 for at in range(8)]


def test_the_threshold_decides_the_verdict_strictly() -> None:
    washer = detector_of()
    scores = washer.inspect(pictures()).scores
    at = washer.with_settings(threshold=scores[0])
    below = washer.with_settings(threshold=float(np.nextafter(scores[0], 0)))
    assert at.inspect(pictures()).verdicts[0] == "normal"
    assert below.inspect(pictures()).verdicts[0] == "defect"


def test_regions_are_given_in_pixels_of_the_source() -> None:
    anomaly_map = np.zeros((16, 16), np.float32)
    anomaly_map[4:8, 8:12] = 30
    region = detector_of().regions(anomaly_map, source_width_px=160, source_height_px=32)[0]
    assert (region.x_px, region.y_px, region.width_px, region.height_px) == (80, 8, 40, 8)


def test_pictures_are_8_bit_and_upright() -> None:
    washer = detector_of()
    codes = washer.vqvae.encode(pictures())
    found = washer.pictures(codes)
    assert (found.dtype, found.shape) == (np.uint8, (8, 16, 16, 3))
    images = to_images(torch.from_numpy(found))
    torch.testing.assert_close(images, washer.vqvae.decode(codes), atol=0.5 / 255 + 1e-6, rtol=0)


def test_images_of_another_size_are_refused_with_the_size_that_is_wanted() -> None:
    message = "images must be (batch, 3, 16, 16) for the washer detector, got (2, 3, 32, 16)"
    with pytest.raises(ValueError, match=re.escape(message)):
        detector_of().inspect(torch.zeros(2, 3, 32, 16))


def test_images_that_are_not_finite_are_refused() -> None:
    images = pictures()
    images[3, 0, 2, 2] = torch.nan
    with pytest.raises(ValueError, match=r"images must be finite, RGB in \[0, 1\]"):
        detector_of().inspect(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum_area_px": 0}, "minimum_area_px must be at least 1, got 0"),
        ({"threshold": -1.0}, "threshold must be finite and not negative, got -1.0"),
        ({"threshold": np.inf}, "threshold must be finite and not negative, got inf"),
        ({"category": ""}, "category must not be empty"),
        (
            {"prior": PixelSNAILConfig(num_codes=9, latent_size=4)},
            "prior and VQ-VAE must have the same num_codes, got 9 and 16",
        ),
        (
            {"prior": PixelSNAILConfig(num_codes=16, latent_size=8)},
            "prior and VQ-VAE must have the same latent_size, got 8 and 4",
        ),
    ],
)
def test_settings_that_no_verdict_can_be_made_with_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        detector_of(**change)


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
    rewrite(saved, lambda record: record.update(format_version=3))
    message = f"{saved} has format version 3, this program reads 1 and 2; train again"
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
