"""Confirmed false alarms are learned from, and never held out; they set no threshold."""

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.model.test_vqvae import CONFIG
from tests.training.test_dataset import write
from tests.training.test_full_form import NAMES, PIXELS
from tests.training.test_networks import PRIOR, PRIOR_BUDGET, VQVAE_BUDGET
from tests.training.test_segmenter import SMALL
from vqad.images import listing
from vqad.training import dataset, holdout
from vqad.training.category import Training
from vqad.training.job import TrainJob
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS, Preset

REVIEWED = NAMES[18:]
OPTIONS = TrainOptions(
    category="washer", kind="rotatable_object", preset="tiny", form="full", eta=0.05
)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    cut = {"num_steps": 4, "num_warmup_steps": 1}
    short = replace(PRIOR_BUDGET, **cut), replace(VQVAE_BUDGET, **cut)
    preset = Preset(vqvae=CONFIG, prior=PRIOR, fit_prior=short[0], fit_vqvae=short[1])
    monkeypatch.setitem(PRESETS, "tiny", replace(preset, segmenter=SMALL))
    return Training(NAMES, PIXELS, OPTIONS, reviewed=REVIEWED)


def test_they_are_learned_from_and_never_held_out(training: Training) -> None:
    assert set(REVIEWED) <= set(training.learned_names)
    assert training.record().reviewed == REVIEWED
    for seed in range(20):
        held_out = holdout.hold_out(NAMES, seed=seed, learned=range(18, 24), copies=[[3, 20]])
        assert len(held_out) == 2
        assert not set(held_out) & {3, *range(18, 24)}


def test_they_set_no_threshold(training: Training) -> None:
    assert list(training.records())
    normal = training._normal()
    assert normal.num_reviewed == len(REVIEWED)
    assert normal.names[-len(REVIEWED) :] == REVIEWED
    found = training.detector().settings.found
    assert len(found.cross_fitted_scores) == len(NAMES) - len(REVIEWED)


def test_without_them_the_split_is_as_it_was() -> None:
    assert holdout.hold_out(NAMES, seed=3) == holdout.hold_out(NAMES, seed=3, learned=())


def test_too_few_good_images_are_not_made_enough_by_them() -> None:
    with pytest.raises(ValueError, match="9 images to learn from: at least 10 are needed"):
        Training(NAMES, PIXELS, OPTIONS, reviewed=NAMES[9:])


def listed_at(uri: str, *, etag: str = "") -> listing.Listed:
    return listing.Listed(image=uri, size_bytes=0, etag=etag, modified_at=None)


@pytest.mark.parametrize("bound", [0, 2**30])
def test_members_of_archives_are_read_and_what_has_changed_is_named(
    tmp_path: Path, bound: int
) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "night").mkdir()
    good, night = (write(tmp_path / name, 3) for name in ("good", "night"))
    with tarfile.open(tmp_path / "night.tar", "w") as tar:
        tar.add(tmp_path / "night" / "001.png", "a/1.png")
    member = f"file://{tmp_path}/night.tar#a/1.png"
    reviewed = [
        listed_at(member),
        listed_at(night[0].image, etag="another"),
        listed_at(night[2].image, etag=night[2].etag),
        listed_at(f"file://{tmp_path}/gone.png"),
    ]
    found = dataset.read(good, reviewed=reviewed, size_px=16, in_memory_bytes=bound)
    assert found.names == [*(each.image for each in good), member, night[2].image]
    assert np.array_equal(found.pixels[3:], found.pixels[1:3])  # the same pictures
    assert found.unreadable == [
        f"{night[0].image}: the image file has changed since it was inspected",
        f"file://{tmp_path}/gone.png: the image file is gone",
    ]


def test_a_run_with_reviews_has_another_name_and_calibration_has_none() -> None:
    def job(**changes: str) -> TrainJob:
        return TrainJob(data="data", models="models", options=[OPTIONS], **changes)

    assert job(reviews="out").run_name != job().run_name
    with pytest.raises(ValueError, match="reviews are for a fit: leave out --only calibrate"):
        job(reviews="out", only="calibrate")
