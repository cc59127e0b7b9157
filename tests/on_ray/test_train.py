"""A night's training: several categories, some of them bad, and what is killed goes on."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import marks
from tests.support.commands import Ended
from tests.support.finished_inspection import ON_RAY
from tests.support.s3_server import S3Server
from tests.support.stored_rows import write_rejects
from tests.support.training_runs import INTERVAL_STEPS, NUM_STEPS, Night, night
from vqad import synthetic
from vqad.detection import versions
from vqad.detection.fit_record import FitRecord
from vqad.detection.saved_categories import current_version
from vqad.detector import Detector
from vqad.images import listing
from vqad.images.tensors import to_images, to_tensor
from vqad.inspection import reviews, stored_reviews
from vqad.training import dataset
from vqad.training.good_images import good_images

pytestmark = ON_RAY
KINDS = {"fabric": "texture", "washer": "rotatable_object", "ampoule": "object"}
GIVEN = [f"--kind={name}={kind}" for name, kind in KINDS.items()]
RUN = ("--run", "monday")
ANY_SCRIPT = "Größe 螺丝"  # Ray takes the name of a run in ASCII only
SECONDS = 0.5  # between checkpoints, where a test kills


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Data with all that data may have, and the detectors trained on it."""

    data: Path
    models: Path
    ended: Ended

    def found(self, category: str) -> FitRecord:
        return Detector.load(str(self.models), category).settings.found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    home = tmp_path_factory.mktemp("night")
    data, models = home / "data", home / "models"
    synthetic.draw_archive(
        data, categories=list(KINDS), size_px=64, num_train=30, num_good=2, num_defect=2
    )
    good = data / "fabric" / "train" / "good"
    picture = (good / "000.png").read_bytes()
    (good / "torn.png").write_bytes(picture[: len(picture) // 2])
    (data / "few").mkdir()
    for number in range(3):
        (data / "few" / f"{number}.png").write_bytes(picture)
    (data / "empty" / "train" / "good").mkdir(parents=True)
    shutil.copytree(data / "washer" / "train" / "good", data / ANY_SCRIPT / "OK")
    names = ",".join([*KINDS, "few", "empty", ANY_SCRIPT])
    arguments = ("--data", data, "--models", models, "--categories", names, *GIVEN, *RUN)
    with night(*arguments, home=home) as running:
        return Trained(data=data, models=models, ended=running.end())


def test_bad_categories_end_with_their_own_message_and_the_others_with_detectors(
    trained: Trained,
) -> None:
    ended, found = trained.ended, trained.ended.summary
    assert ended.code == 1
    assert sorted(found["trained"]) == sorted([*KINDS, ANY_SCRIPT])
    few = "3 images to learn from: at least 10 are needed, of which a tenth is held out; add good "
    assert found["failed"]["few"].startswith(few)
    assert re.fullmatch("no images in .*/data/empty", found["failed"]["empty"])
    assert len(found["failed"]) == 2
    assert "Traceback" not in ended.err
    for category in KINDS:
        detector = Detector.load(str(trained.models), category)
        test = listing.list_images(str(trained.data / category / "test"))
        size_px = detector.settings.vqvae.image_size_px
        images = to_images(to_tensor(dataset.read(test, size_px=size_px).pixels))
        assert len(detector.inspect(images).verdicts) == len(test) > 0


def test_a_category_in_any_script_is_trained_like_the_others(trained: Trained) -> None:
    found = trained.found(ANY_SCRIPT)
    assert found.num_images == 30
    assert found.options["category"] == ANY_SCRIPT


def test_a_kind_that_is_not_given_is_found_and_said(trained: Trained) -> None:
    assert trained.found("washer").kind_found_by == "given"
    found = trained.found(ANY_SCRIPT)
    assert (found.kind_found_by, found.options["kind"]) == ("normal images", "rotatable_object")
    (line,) = [line for line in trained.ended.err.splitlines() if "of the kind" in line]
    assert line.startswith(f"{ANY_SCRIPT}: found to be of the kind rotatable_object: variation at ")


def test_the_smallest_defect_that_can_be_found_is_said_before_a_fit(trained: Trained) -> None:
    said = trained.ended.err
    found = re.search(
        r"washer: the smallest defect that can be found has \d+ pixels of the map, \d+ of an image "
        "of 64 x 64: about ",
        said,
    )
    assert found
    assert found.start() < said.index("washer: vqvae step ")


def test_a_torn_image_is_left_out_counted_and_named(trained: Trained) -> None:
    (line,) = [line for line in trained.ended.err.splitlines() if "left out file" in line]
    assert re.match(r"fabric: left out file://.*/torn\.png: (truncated|unreadable): ", line)
    told = trained.ended.summary["categories"]
    assert (told["fabric"]["images"], told["fabric"]["unreadable"]) == (30, 1)
    assert told["washer"]["unreadable"] == 0
    (unreadable,) = trained.found("fabric").unreadable
    assert "/torn.png: " in unreadable


def test_every_interval_is_kept_beside_the_detector_and_drawn(trained: Trained) -> None:
    version = current_version(str(trained.models), "washer")
    folder = trained.models / "washer" / version
    records = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    steps = [(each["stage"], each["step"]) for each in records]
    expected = range(INTERVAL_STEPS, NUM_STEPS + 1, INTERVAL_STEPS)
    assert steps == [(stage, step) for stage in ("vqvae", "prior") for step in expected]
    assert all(np.isfinite(each["loss"]) for each in records)
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    told = trained.found("washer").held_out_nats
    assert told == min(each["held_out"] for each in records if each["stage"] == "prior")


def test_a_detector_says_what_made_it(trained: Trained) -> None:
    found = trained.found("washer")
    listed = good_images(str(trained.data), "washer")
    assert found.data_fingerprint == dataset.fingerprint(listed)
    assert (found.options["seed"], found.options["preset"]) == (0, "tiny")
    made_with = found.made_with
    assert len(made_with["vqad_sha256"]) == 64
    assert made_with["torch"] == torch.__version__
    assert (made_with["num_workers"], made_with["device"][:3]) == (1, "cpu")


def test_nothing_of_training_stays_but_detectors(trained: Trained) -> None:
    (run,) = (trained.models / ".runs").iterdir()
    left = {path.name.rpartition("-")[0] for path in run.iterdir()}
    # Of the category that failed with its images read, a folder without a checkpoint.
    assert left <= {"few"}
    assert not list(run.rglob("*.pt"))


def again(trained: Trained, models: Path | str, *more: object) -> tuple[object, ...]:
    """The washer alone, elsewhere: another run, fitted by the same images and seed."""
    line = ("--data", trained.data, "--models", models, "--categories", "washer", *more)
    return (*line, GIVEN[1], "--checkpoint-seconds", SECONDS)


def assert_as_good(models: Path | str, trained: Trained) -> None:
    """The undisturbed detector, to the last bit: one seed, and one thread for each of them."""
    ours = Detector.load(str(models), "washer").settings.found
    theirs = trained.found("washer")
    assert (ours.made_with["num_threads"], theirs.made_with["num_threads"]) == (1, 1)
    for name in ("steps", "held_out", "held_out_error", "held_out_nats", "held_out_scores"):
        assert getattr(ours, name) == getattr(theirs, name), name
    version = current_version(str(models), "washer")
    assert version[-8:] == current_version(str(trained.models), "washer")[-8:]  # of the weights


def lost(killed: Night, resumed: Night) -> tuple[str, int]:
    """Stage and steps that were done before a kill and had to be done again."""
    (line,) = [line for line in resumed.lines if "resumes from" in line]
    found = re.search(r"resumes from (\w+) step (\d+)", line)
    assert found
    stage, step = killed.steps()[-1]
    before = {"vqvae": 0, "prior": NUM_STEPS}
    return stage, before[stage] + step - before[found[1]] - int(found[2])


def test_a_killed_driver_goes_on_where_it_was_and_ends_as_good(
    trained: Trained, tmp_path: Path
) -> None:
    line = again(trained, tmp_path / "models")
    with night(*line, home=tmp_path, NIGHT_CPUS="1") as killed:
        killed.read_until("washer: prior step 20")
        killed.cut_power()
    with night(*line, home=tmp_path, NIGHT_CPUS="1") as resumed:
        ended = resumed.end()
    assert ended.code == 0, ended.err
    assert ended.summary["trained"] == ["washer"]
    stage, num_steps = lost(killed, resumed)
    # Under a second's work is an interval here, and that of the fit's end had its own checkpoint.
    assert (stage, num_steps <= 20 + INTERVAL_STEPS) == ("prior", True)
    assert resumed.steps()[0][0] == "prior"
    assert_as_good(tmp_path / "models", trained)


def test_a_killed_worker_heals_in_the_same_command_with_detectors_on_s3(
    trained: Trained, tmp_path: Path, s3: S3Server, bucket: str, vqad: Callable[..., Ended]
) -> None:
    line = again(trained, f"{bucket}/models")
    with night(*line, home=tmp_path, NIGHT_CPUS="1", **s3.environment) as running:
        running.read_until("washer: vqvae step 40")
        running.kill_worker()
        ended = running.end()
    assert ended.code == 0, ended.err
    assert ended.summary["trained"] == ["washer"]
    assert any("washer: resumes from vqvae step" in line for line in running.lines)
    assert_as_good(f"{bucket}/models", trained)
    second = vqad("train", *line, "--preset", "tiny")
    assert (second.code, second.summary["skipped"]) == (0, ["washer"])


def test_only_calibrate_changes_threshold_and_eta_and_no_weight(
    local_ray: None, trained: Trained, vqad: Callable[..., Ended]
) -> None:
    old = Detector.load(str(trained.models), "washer")
    line = ("--data", trained.data, "--models", trained.models, "--categories", "washer,empty")
    ended = vqad("train", *line, "--only", "calibrate", "--eta", 0.3)
    assert ended.code == 1
    assert (ended.summary["calibrated"], ended.summary["trained"]) == (["washer"], [])
    assert ended.summary["failed"]["empty"].startswith("no detector for category empty in ")
    new = Detector.load(str(trained.models), "washer")
    assert new.version == ended.summary["categories"]["washer"]["version"] != old.version
    for stage in ("vqvae", "prior"):
        theirs = getattr(old, stage).state_dict()
        for name, tensor in getattr(new, stage).state_dict().items():
            assert torch.equal(tensor, theirs[name]), name
    assert (old.settings.resample.eta, new.settings.resample.eta) == (5e-4, 0.3)
    ours, before = new.settings.found, old.settings.found
    assert ours.calibrated_from == old.version
    assert ours.held_out_scores != before.held_out_scores
    assert new.settings.threshold == max(1.0, *ours.held_out_scores)
    kept = ("held_out", "run", "data_fingerprint", "steps", "held_out_nats", "made_with")
    assert all(getattr(ours, name) == getattr(before, name) for name in kept)
    assert (trained.models / "washer" / new.version / "training.png").exists()


def as_of_the_first_format(models: Path, category: str) -> None:
    """Rewrite a detector's record as the program wrote it that knew the plain form alone."""
    path = models / category / current_version(str(models), category) / "detector.json"
    record = json.loads(path.read_text())
    record["format_version"] = 1
    for owner, name in (
        (record["settings"], "form"),
        (record["settings"], "usual"),
        (record["settings"]["found"]["options"], "form"),
    ):
        del owner[name]
    for name in ("data_fingerprint", "run", "unreadable", "made_with"):
        record["settings"]["found"].pop(name)
    path.write_text(json.dumps(record))


def test_only_calibrate_joins_the_surprise_to_a_detector_of_the_first_format(
    local_ray: None, trained: Trained, vqad: Callable[..., Ended], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(trained.models / "ampoule", models / "ampoule")
    as_of_the_first_format(models, "ampoule")
    old = Detector.load(str(models), "ampoule")
    line = ("--data", trained.data, "--models", models, "--categories", "ampoule")
    found = []
    for more in ((), ("--form", "joined"), ()):
        ended = vqad("train", *line, "--only", "calibrate", *more)
        assert ended.code == 0, ended.err
        found.append(Detector.load(str(models), "ampoule"))
    assert [each.settings.form for each in found] == ["plain", "joined", "joined"]
    assert found[1].settings.usual == found[2].settings.usual is not None
    assert {each.version[-8:] for each in found} == {old.version[-8:]}  # the weights' hash
    assert found[1].settings.found.held_out_scores != found[0].settings.found.held_out_scores
    test = listing.list_images(str(trained.data / "ampoule" / "test"))
    pixels = dataset.read(test, size_px=old.settings.vqvae.image_size_px).pixels
    assert len(found[1].inspect(to_images(to_tensor(pixels))).verdicts) == len(test) > 0


def confirmed_false_alarm(trained: Trained, output: Path) -> str:
    """Store a review of a good test image of the ampoule; returns the image."""
    image = listing.list_images(str(trained.data / "ampoule" / "test" / "good"))[0].image
    row = {"image": image, "category": "ampoule", "run": "r", "model_version": "v", "score": 9.0}
    write_rejects(str(output), {image: "ampoule"})
    line = marks.save(output.parent / "lines", [marks.line_of(row, "false_alarm")])
    stored_reviews.store(str(output), reviews.parse(line.read_bytes(), "lines"))
    return image


def test_what_is_finished_is_trained_again_with_redo_and_learns_reviewed_images_unpromoted(
    trained: Trained, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(trained.models, models)
    image = confirmed_false_alarm(trained, tmp_path / "output")
    in_force = current_version(str(models), "ampoule")
    line = ("--data", trained.data, "--models", models, "--categories", "ampoule", *RUN)
    more = ("--redo", "--reviews", tmp_path / "output", "--no-promote")
    for options, expected in (((), "skipped"), (more, "trained")):
        with night(*line, GIVEN[2], *options, home=tmp_path, NIGHT_CPUS="1") as running:
            ended = running.end()
        assert ended.code == 0, ended.err
        assert ended.summary[expected] == ["ampoule"]
        assert current_version(str(models), "ampoule") == in_force
    newest = versions.newest_version(str(models), "ampoule")
    assert newest == ended.summary["categories"]["ampoule"]["version"] != in_force
    found = Detector.load(str(models), "ampoule", version=newest).settings.found
    assert found.reviewed == [image]
    assert image not in found.held_out
    assert found.num_images == trained.found("ampoule").num_images + 1
