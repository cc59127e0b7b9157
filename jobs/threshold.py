"""`vqad threshold`: a new threshold for a detector, and new verdicts for rows that are there."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, create_model
from pydantic_settings import NoDecode, SettingsConfigDict

from jobs import declared
from jobs.command import run, say
from jobs.options import Options, Shown
from vqad.inspection.threshold_job import ThresholdJob
from vqad.storage import writable
from vqad.storage.uris import absolute


def _rate(value: Any) -> Any:
    """A share of one from a text such as 0.5% or 0.005."""
    if not isinstance(value, str):
        return value
    number = value.strip().removesuffix("%")
    try:
        return float(number) / (100 if value.strip().endswith("%") else 1)
    except ValueError:
        raise ValueError(f"expected a percentage such as 0.5%, got {value!r}") from None


def _uris(value: Any) -> Any:
    texts = value.split(",") if isinstance(value, str) else value
    return tuple(absolute(part) for text in texts for part in text.split(",") if part)


_Uris = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_uris), Shown("URI,URI,...")]
_Rate = Annotated[float, BeforeValidator(_rate), Shown("RATE%")]
# `from` is a word of the language, which no class can have as the name of a field.
_FROM: Any = create_model(
    "From",
    **{
        "from": (
            _Uris,
            Field(
                default=(),
                description="outputs of inspections, each one night, whose scores set the "
                "threshold, with their reviews; default: the scores of normal images in the "
                "detector's record",
            ),
        )
    },  # type: ignore[call-overload]
)
_FLAGS: Any = declared.flags(ThresholdJob)


class ThresholdCommand(Options, _FROM, _FLAGS):
    """Save a version of a detector that has another threshold, and judge stored rows by it."""

    model_config = SettingsConfigDict(cli_prog_name="vqad threshold")
    example = (
        "--models s3://factory/models --category bottle --per-night 20 "
        "--from s3://factory/inspected --apply s3://factory/inspected"
    )

    false_alarms: _Rate | None = Field(
        default=None,
        description="rate of false alarms among normal images, such as 0.5%; default: none",
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("threshold", ThresholdCommand, arguments, work)


def work(options: ThresholdCommand) -> tuple[dict[str, Any], int]:
    """Set the threshold; returns the summary and the exit code."""
    job = declared.made(
        ThresholdJob,
        options,
        false_alarms=options.false_alarms,
        nights=getattr(options, "from"),
    )
    writable.check(job.models, "--models")
    if job.apply:
        writable.check(job.apply, "--apply")
    # Importing the detector takes seconds, so mistakes are looked for first.
    from vqad.inspection.set_threshold import set_threshold

    return set_threshold(job, say), 0
