"""A saved detector is the same one after loading, and the version in use is written last."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.support.random_detectors import (
    assert_equal_bits,
    detector_of,
    pictures,
)
from vqad.detection.saved_categories import current_version
from vqad.detection.settings import FORMAT_VERSION
from vqad.detector import Detector
from vqad.images.decoding import PREPROCESSING
from vqad.storage import errors, files, models_layout, uris


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
    *weights, record, entry, current = written
    assert sorted(weights) == ["prior.safetensors", "vqvae.safetensors"]
    (named,) = Path(models, "washer", "promotions").iterdir()
    assert (record, entry, current) == ("detector.json", named.name, "current.json")


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
