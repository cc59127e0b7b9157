"""`vqad demo`: the whole product on drawn images: draw, train, inspect, evaluate."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs.command import run, say
from jobs.options import LocalPath, Options, UsageError
from vqad.storage import writable

CATEGORIES = ("fabric", "washer", "ampoule")


class DemoCommand(Options):
    """Draw an archive, fit tiny detectors, inspect the archive, and make the page about it."""

    model_config = SettingsConfigDict(cli_prog_name="vqad demo")
    example = "--output vqad-demo"
    after_stop = "give a new --output to begin anew"

    output: LocalPath = Field(
        default="",
        description="new or empty local folder for data, models, output, evaluation and sheets; "
        "default: a new temporary folder",
    )
    num_train: int = Field(default=120, description="good training images per category", ge=20)
    num_good: int = Field(default=20, description="good test images per category", ge=1)
    num_defect: int = Field(default=20, description="defective test images per category", ge=1)
    seed: int = Field(default=0, description="random seed for drawing and training")


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("demo", DemoCommand, arguments, _work)


def _work(options: DemoCommand) -> tuple[dict[str, Any], int]:
    from vqad.on_ray import session

    folder = _folder(options.output)
    with session.connected():
        return _night(options, folder)


def _night(options: DemoCommand, folder: Path) -> tuple[dict[str, Any], int]:
    """Draw, train, inspect and evaluate; one command after the other, each in this process."""
    from jobs import evaluate

    _draw(options, folder)
    trained, code = _train(options, folder)
    if code:
        return trained, code
    inspected, code = _inspect(folder)
    measured, _ = evaluate.work(
        evaluate.EvaluateCommand(
            data=str(folder / "data"),
            models=str(folder / "models"),
            output=str(folder / "evaluation"),
            verdicts=str(folder / "output"),
            categories=CATEGORIES,
        )
    )
    say(f"look at the page {folder / 'output' / 'report' / 'index.html'}")
    return inspected | {"image_accuracy": measured["mean"]["image_accuracy"]}, code


def _draw(options: DemoCommand, folder: Path) -> None:
    from vqad import synthetic

    synthetic.draw_archive(
        folder / "data",
        categories=CATEGORIES,
        num_train=options.num_train,
        num_good=options.num_good,
        num_defect=options.num_defect,
        seed=options.seed,
    )
    say(f"drew {', '.join(CATEGORIES)} in {folder / 'data'}")


def _train(options: DemoCommand, folder: Path) -> tuple[dict[str, Any], int]:
    from jobs import train
    from vqad import synthetic

    return train.work(
        train.TrainCommand(
            data=str(folder / "data"),
            models=str(folder / "models"),
            preset="tiny",
            seed=options.seed,
            kind={category: synthetic.KINDS[category] for category in CATEGORIES},
        )
    )


def _inspect(folder: Path) -> tuple[dict[str, Any], int]:
    """Inspect the drawn test images, and copy the contact sheets to where a person looks first."""
    from jobs import inspect_archive
    from vqad.storage import output_layout

    output = str(folder / "output")
    inspected, code = inspect_archive.work(
        inspect_archive.InspectCommand(
            archive=str(folder / "data"),
            include="*/test/*",
            models=str(folder / "models"),
            output=output,
            sheets=3,
        )
    )
    shutil.copytree(output_layout.sheets(output, inspected["run"]), folder / "sheets")
    say(f"contact sheets: {folder / 'sheets'}")
    return inspected, code


def _folder(given: str) -> Path:
    if given:
        writable.check(given, "--output")
    folder = Path(given) if given else Path(tempfile.mkdtemp(prefix="vqad-demo-"))
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--output {folder} is not empty; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()
