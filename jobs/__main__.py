"""`vqad COMMAND` and `python -m jobs COMMAND`."""

import importlib
import sys
from collections.abc import Callable

import vqad
from jobs import command

# Name, module, one line. A module is imported only when its command is called.
COMMANDS = {
    "demo": ("jobs.demo", "the whole product on drawn images: draw, train, inspect, evaluate"),
    "train": ("jobs.train", "fit one detector per category"),
    "inspect": ("jobs.inspect_archive", "inspect the images of an archive: verdicts and maps"),
    "threshold": ("jobs.threshold", "set a detector's threshold, and judge stored rows again"),
    "models": ("jobs.models", "the versions of the detectors: list, show, promote, roll back"),
    "report": ("jobs.report", "make the page about an output: counts, plots, pictures"),
    "review": ("jobs.review", "apply the marks that people gave to images on the page"),
    "export": ("jobs.export", "write the regions of an output for labelling tools"),
    "evaluate": ("jobs.evaluate", "compare verdicts and maps with ground truth"),
    "bench": ("jobs.bench", "measure the speed of this machine: resample, inspect, train"),
    "submit": ("jobs.submit", "run train or inspect on a running Ray cluster"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["--version"]:
        sys.stdout.write(f"vqad {vqad.__version__}\n")
        return 0
    return command.choose(
        "vqad",
        {name: (line, _loaded(module)) for name, (module, line) in COMMANDS.items()},
        given,
        example="vqad demo --output vqad-demo",
        more=("vqad --version shows the version.",),
    )


def _loaded(module: str) -> Callable[[list[str]], int]:
    return lambda arguments: int(importlib.import_module(module).main(arguments))


if __name__ == "__main__":
    sys.exit(main())
