"""One pass over the verdicts of an output: counts of all rows, and the rows that get a card."""

from dataclasses import dataclass
from typing import Any

from vqad.inspection import verdict_rows
from vqad.inspection.run_record import read_record
from vqad.report.choice import Candidates
from vqad.report.job import ReportJob
from vqad.report.part_groups import PartGroups, part_groups, whole_parts
from vqad.report.totals import Totals
from vqad.storage import files, output_layout
from vqad.storage.errors import ArchiveError


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The counts of an output, and the verdict rows of the cards."""

    totals: Totals
    rows: list[dict[str, Any]]  # of all cards, the most severe first, rejects last
    damaged: list[str]  # parts of the table that can't be read
    groups: PartGroups | None  # the images by product part, if the latest run was asked for parts


def survey(job: ReportJob) -> Survey:
    """Read all verdicts; raises ArchiveError where there are none."""
    if not files.exists(output_layout.table(job.output, "verdicts")):
        raise ArchiveError(f"{job.output} has no verdicts; inspect an archive into it first")
    totals, damaged = Totals(), list[str]()
    candidates: dict[str, Candidates] = {}
    for rows in verdict_rows.read(job.output, damaged):
        totals.add(rows)
        for category, of_category in verdict_rows.by_category(rows).items():
            # The number of categories isn't known yet, so each keeps as many as it may ever have.
            found = candidates.setdefault(category, Candidates(num_cards=job.cards))
            found.add(of_category)
    if not totals.images:
        raise ArchiveError(f"{job.output} has no readable verdicts; inspect an archive into it")
    groups = part_groups(job.output, read_record(job.output))
    rows = _chosen(job, candidates, groups)
    return Survey(totals=totals, rows=rows, damaged=damaged, groups=groups)


def _chosen(
    job: ReportJob, candidates: dict[str, Candidates], groups: PartGroups | None
) -> list[dict[str, Any]]:
    num_cards = job.cards_of(len(candidates))
    chosen = {category: each.chosen(num_cards) for category, each in candidates.items()}
    found = [row for rows in chosen.values() for row in rows]
    if groups:
        found = whole_parts(job.output, chosen, groups, num_cards=num_cards)
    by_image = {row["image"]: row for row in sorted(found, key=lambda row: row["inspected_at"])}
    # An image that moved to another category may have two rows; the later one counts.
    return sorted(by_image.values(), key=by_severity)


def by_severity(row: dict[str, Any]) -> tuple[bool, float, str]:
    """A key that sorts the most severe row first, and rejects last."""
    is_reject = row["score"] is None
    return is_reject, 0.0 if is_reject else -row["severity"], row["image"]
