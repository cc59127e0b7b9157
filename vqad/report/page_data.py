"""Everything that the page shows, as plain values: the input of its template and of its script."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from vqad.inspection.shadow_comparison import Disagreement
from vqad.report import drift_table, plots
from vqad.report.cards import Card
from vqad.report.drift_table import Line
from vqad.report.plots import Night, Plot
from vqad.report.survey import Survey
from vqad.report.totals import CategoryTotals
from vqad.storage.uris import decoded, is_remote, path_of

# The reasons of rejects in words; `vqad.tables.ERRORS` has the list.
REASONS: Final = {
    "empty": "the file has no bytes",
    "unreadable": "not a picture, or a damaged one",
    "truncated": "the picture ends early",
    "too_large": "more bytes or pixels than allowed",
    "unsupported": "a format that is not read",
    "unknown_category": "no category, or none with a detector",
    "missing": "listed, but gone when it was read",
    "denied": "the storage refused to let it be read",
    "fetch_failed": "the storage failed",
    "archive_truncated": "the archive breaks off; its other images were not read",
}
_RUN_NAME: Final = re.compile(r"^(\d{8}T\d{6})Z-")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One category of the page's first part."""

    name: str
    totals: CategoryTotals
    num_cards: int
    histogram: Plot | None  # None where every image was rejected
    defects: Plot | None  # shares of the nights; None without earlier nights
    rejects: Plot | None
    statistics: list[Line]  # of the latest run

    @property
    def versions(self) -> list[tuple[str, int]]:
        """The detectors' versions, the one with most images first."""
        return self.totals.versions.most_common()


def panels(survey: Survey, found: Sequence[Night], record: dict[str, Any]) -> list[Panel]:
    """The categories in alphabetical order; ``record`` is that of the latest run."""
    num_cards: dict[str, int] = {}
    for row in survey.rows:
        num_cards[row["category"]] = num_cards.get(row["category"], 0) + 1
    return [
        Panel(
            name=name,
            totals=totals,
            num_cards=num_cards.get(name, 0),
            histogram=plots.histogram(totals) if totals.scores.any() else None,
            defects=plots.nights(found, name, "defect"),
            rejects=plots.nights(found, name, "reject"),
            statistics=drift_table.lines(record, name),
        )
        for name, totals in sorted(survey.totals.by_category.items())
    ]


def card_data(
    card: Card, *, unit: str, archive: str, part: dict[str, Any] | None
) -> dict[str, Any]:
    """One card, as the page's script reads it; ``part`` is the row of the image's product part."""
    row = card.row
    return {
        **{name: row[name] for name in ("image", "category", "verdict", "error", "run")},
        "path": _path(row["image"]),
        "name": _name(row["image"], archive),
        "detail": row["error_detail"],
        "version": row["model_version"],
        "score": _number(row["score"]),
        "threshold": _number(row["threshold"]),
        "unit": unit,
        "severity": _number(row["severity"]),
        "borderline": row["borderline"],
        "regions": [
            [region[f"{side}_px"] for side in ("x", "y", "width", "height", "area")]
            for region in row["regions"]
        ],
        "lengths": [_number(each) for each in row["region_lengths_px"] or ()],
        "mm": [
            [_number(each["area_mm2"]), _number(each["length_mm"])]
            for each in row["regions_mm"] or ()
        ],
        "part": part and list(part.values()),
        "size": [row["width_px"], row["height_px"]],
        "at": f"{row['inspected_at']:%Y-%m-%d %H:%M:%S}",
        "p": _number(row.get("p_value")),
        "why": [[each["name"], _number(each["share"])] for each in row["witnesses"] or ()],
        "pictures": card.names,
        "missing": card.missing,
        "crop": list(vars(card.crop).values()) if card.crop else None,
        "outline": card.outline,
        "map": list(card.map_size_px),
    }


def disagreement(found: Disagreement, archive: str) -> dict[str, Any]:
    """An image with two verdicts, as the template names it."""
    return {
        "category": found.category,
        "name": _name(found.image, archive),
        "verdicts": [
            (found.verdict, _of_threshold(found.score, found.threshold), found.version),
            (
                found.shadow_verdict,
                _of_threshold(found.shadow_score, found.shadow_threshold),
                found.shadow_version,
            ),
        ],
    }


def _of_threshold(score: float | None, threshold: float | None) -> str:
    """Score and threshold for a person; "" for a reject."""
    if score is None or threshold is None:
        return ""
    return f"{score:.4g}, threshold {threshold:.4g}"


def _number(value: float | None) -> float | None:
    """Five digits: as much as anybody reads, in few bytes. JSON has no infinity."""
    if value is None or math.isnan(value):
        return None
    return 1e9 if math.isinf(value) else float(f"{value:.5g}")


def _path(image: str) -> str:
    """The path that a person can paste: of a local file without file://, else the URI."""
    return image if is_remote(image) else decoded(image.partition("://")[2])


def _name(image: str, archive: str) -> str:
    """The path below the archive, or the whole path of an image that is elsewhere."""
    path = decoded(image.partition("://")[2])
    below = f"{path_of(archive).rstrip('/')}/" if archive else ""
    return path.removeprefix(below) if below and path.startswith(below) else _path(image)


def when(run: str) -> str:
    """The start of a run, which its name begins with, for a person; else the name."""
    found = _RUN_NAME.match(run)
    if not found:
        return run
    return f"{datetime.strptime(found[1], '%Y%m%dT%H%M%S').replace(tzinfo=UTC):%Y-%m-%d %H:%M} UTC"


def identity(output: str) -> str:
    """A name by which a browser keeps the marks of one output apart from those of others."""
    return hashlib.sha256(output.encode()).hexdigest()[:16]


def warnings_of(record: dict[str, Any]) -> list[str]:
    """The warnings of a run's record, as lines. Each is a text, or has one."""
    found = record.get("warnings")
    return [_warning(each) for each in found] if isinstance(found, list) else []


def _warning(each: Any) -> str:
    if not isinstance(each, dict):
        return str(each)
    for name in ("text", "message", "warning"):
        if each.get(name):
            return str(each[name])
    return ", ".join(f"{name}: {value}" for name, value in each.items())


def duration(seconds: Any) -> str:
    """Seconds for a person, such as 1 h 20 min; "" for what is no number."""
    if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
