"""The contents of the page: what the template is given, from verdicts, cards and run records."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

import vqad
from vqad.inspection import history, shadow_comparison
from vqad.inspection.run_record import RunRecord, read_record, text, texts
from vqad.report import page_data, plots
from vqad.report.cards import Card
from vqad.report.job import ReportJob
from vqad.report.survey import Survey
from vqad.storage import files, models_layout, output_layout
from vqad.storage.errors import ArchiveError, VqadError

_LARGEST_RECORD_BYTES: Final = 16 * 2**20
_MOST_DISAGREEMENTS: Final = 200  # that are listed (a guess): more than anybody looks at


def values(job: ReportJob, models: str, survey: Survey, cards: Sequence[Card]) -> dict[str, Any]:
    """Everything that the template names."""
    output, record = job.output, read_record(job.output)
    earlier, problem = _earlier(job, record)
    nights = _nights(earlier, record)
    run = record.run or max(survey.totals.runs, default="")
    parts = survey.groups.counts if survey.groups else {}
    return {
        "when": page_data.when(run),
        "run": run,
        "latest": page_data.when(run),
        "archive": record.asked("archive"),
        "output": output,
        "duration": page_data.duration(record.values.get("seconds")),
        "versions": record.versions,
        "version": vqad.__version__,
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "notes": _notes(survey, record, problem),
        "compared": _compared(record),
        "totals": survey.totals,
        "parts": parts,
        "all_parts": sum(parts.values(), Counter()),
        "panels": page_data.panels(survey, nights, record.values),
        "has_nights": len(nights) > 1,
        "reasons": page_data.REASONS,
        "shadow": _shadow(output, record),
        "num_cards": len(cards),
        "data": _data(output, models, run, record, survey, cards),
    }


def _shadow(output: str, record: RunRecord) -> dict[str, Any]:
    """The images for which a second detector came to another verdict; empty without one."""
    found = shadow_comparison.compare(output, most=_MOST_DISAGREEMENTS)
    if not found.images:
        return {}
    return {
        "images": found.images,
        "disagreements": found.disagreements,
        "rows": [page_data.disagreement(each, record.asked("archive")) for each in found.worst],
    }


def _data(
    output: str, models: str, run: str, record: RunRecord, survey: Survey, cards: Sequence[Card]
) -> dict[str, Any]:
    """The part that the page's script reads."""
    units = {
        (card.row["category"], card.row["model_version"])
        for card in cards
        if card.row["model_version"]
    }
    unit_of = {each: _unit(models, *each) for each in sorted(units)}
    part_of = survey.groups.of_images([card.row for card in cards]) if survey.groups else {}
    return {
        "id": page_data.identity(output),
        "run": run,
        "images": survey.totals.images,
        "reasons": page_data.REASONS,
        "cards": [
            page_data.card_data(
                card,
                unit=unit_of.get((card.row["category"], card.row["model_version"]), ""),
                archive=record.asked("archive"),
                part=part_of.get(card.row["image"]),
            )
            for card in cards
        ],
    }


def _unit(models: str, category: str, version: str) -> str:
    """The unit of a detector's scores as its record says, "" if that can't be had."""
    if not models:
        return ""
    try:
        uri = models_layout.record(models_layout.version(models, category, version))
        found = json.loads(files.read_bytes(uri, max_bytes=_LARGEST_RECORD_BYTES))
        return text(found["settings"].get("unit", "grey levels"))
    except (VqadError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _earlier(job: ReportJob, record: RunRecord) -> tuple[list[dict[str, Any]], str]:
    """Records of earlier nights, latest first, and the reason why there are none to be had.

    They are the nights that the run was compared with. A run of an earlier version of the program
    doesn't say with what it can be compared: then they are the earlier runs of its output.
    """
    pattern, statistics = (record.values.get(each) for each in ("archive_pattern", "statistics"))
    try:
        if not isinstance(pattern, dict) or not isinstance(statistics, dict):
            own = history.last_runs(job.output)
            return [each for each in own if each.get("run") != record.run], ""
        night = history.Night(
            run=record.run,
            output=job.output,
            pattern=pattern,
            categories=frozenset(statistics),
        )
        folder = job.history or history.folder_above(job.output)
        return history.earlier_nights(folder, night), ""
    except ArchiveError as error:
        return [], f"earlier nights can't be read: {error}"


def _nights(earlier: Sequence[dict[str, Any]], record: RunRecord) -> list[plots.Night]:
    """The earlier nights, oldest first, and the latest run."""
    found = [plots.night_of(each, page_data.when(text(each.get("run")))) for each in earlier]
    latest = plots.night_of(record.values, page_data.when(record.run), is_latest=True)
    return [*reversed(found), latest]


def _notes(survey: Survey, record: RunRecord, problem: str) -> list[tuple[str, str]]:
    """Warnings and notes, each with its kind."""
    warnings = [("warning", each) for each in page_data.warnings_of(record.values)]
    notes = [problem] if problem else []
    if not record.values:
        notes.append("there is no run.json: the inspection has not ended, or was stopped")
    if survey.damaged:
        notes.append(
            f"{len(survey.damaged)} parts of the verdicts can't be read, such as "
            f"{survey.damaged[0]}; their images are not counted here"
        )
    not_compared = texts(record.values.get("not_compared"))
    if not_compared and len(set(not_compared.values())) == 1:
        (reason,) = set(not_compared.values())
        notes.append(f"not compared with earlier nights: {reason}")
    elif not_compared:
        named = ", ".join(f"{name} ({reason})" for name, reason in not_compared.items())
        notes.append(f"not compared with earlier nights: {named}")
    return [*warnings, *(("note", each) for each in notes)]


def _compared(record: RunRecord) -> str:
    runs = record.values.get("compared_with_runs")
    if not isinstance(runs, list) or not runs:
        return ""
    return f"compared with {len(runs)} earlier night{'s' if len(runs) > 1 else ''}"


def picture_names(cards: Sequence[Card]) -> set[str]:
    """The files in the folder of pictures that the page needs."""
    return set(chain.from_iterable(card.names.values() for card in cards))


def remove_others(output: str, before: set[str], needed: set[str]) -> None:
    """Remove the pictures of an earlier page that this one doesn't need."""
    for name in before - needed:
        files.delete(output_layout.report_picture(output, name))


def pictures_before(output: str) -> set[str]:
    """The pictures of an earlier page."""
    folder = output_layout.report_pictures(output)
    return set(files.list_names(folder)) if files.exists(folder) else set()
