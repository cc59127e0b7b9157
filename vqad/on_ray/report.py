"""The page about an output, its pictures drawn by tasks on the cluster."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import ray

from vqad.inspection.run_record import read_record
from vqad.inspection.summary import Say
from vqad.on_ray import contact_sheets, failures, session
from vqad.report import cards, contents, page
from vqad.report.cards import Batch, Card
from vqad.report.job import ReportJob
from vqad.report.survey import Survey, by_severity, survey
from vqad.storage import errors, files, output_layout

_CARDS_PER_TASK: Final = 24  # a guess: a detector is loaded once per task
_TASKS_PER_CPU: Final = 2  # that wait for a CPU, so that none is idle
_SAID_EVERY_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """A page that was made."""

    page: str  # URI
    images: int  # in all rows
    cards: list[Card]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """For standard output."""
        return {
            "page": self.page,
            "images": self.images,
            "cards": len(self.cards),
            "restored": sum("restored" in each.names for each in self.cards),
            "without_picture": sum("whole" in each.missing for each in self.cards),
            "seconds": self.seconds,
        }


def make_report(job: ReportJob, say: Say) -> Report:
    """Make the page of an output; connects to Ray if none is connected.

    Raises ArchiveError where the output has no verdicts, and IncompleteError where the page could
    not be finished. The page itself is written last, so an earlier one stays until then.
    """
    start_s = time.monotonic()
    found = survey(job)
    models = job.models or read_record(job.output).asked("models")
    with session.connected(), errors.work_begun(), failures.explained("give a smaller --cards"):
        before = contents.pictures_before(job.output)
        batches = cards.batches(found.rows, num_restored=job.restored, size=_CARDS_PER_TASK)
        drawn = list(_drawn(batches, job.output, models, len(found.rows), say))
        drawn.sort(key=lambda card: by_severity(card.row))
        uri = output_layout.report_page(job.output)
        files.write_bytes(uri, page.render(**contents.values(job, models, found, drawn)))
        contents.remove_others(job.output, before, contents.picture_names(drawn))
        _write_sheets(job, found, models, say)
    seconds = round(time.monotonic() - start_s, 1)
    return Report(page=uri, images=found.totals.images, cards=drawn, seconds=seconds)


def _write_sheets(job: ReportJob, found: Survey, models: str, say: Say) -> None:
    """Contact sheets of the most severe images of the latest run, if any are asked for."""
    run = read_record(job.output).run or max(found.totals.runs)
    rows = [row for row in found.rows if row["run"] == run and row["score"] is not None]
    # A sheet has one detector per category: that of the category's most severe image.
    versions: dict[str, str] = {}
    for row in rows:
        versions.setdefault(row["category"], row["model_version"])
    contact_sheets.write_sheets(
        [row for row in rows if row["model_version"] == versions[row["category"]]],
        say,
        output=job.output,
        run=run,
        models=models,
        versions=versions,
        num_sheets=job.sheets,
    )


def _drawn(
    batches: Sequence[Batch], output: str, models: str, num_cards: int, say: Say
) -> Iterator[Card]:
    """Cards as tasks finish them; a bounded number of tasks is under way."""
    task: Any = ray.remote(num_cpus=1)(cards.draw)
    waiting, running = list(reversed(batches)), list[Any]()
    most_running = _TASKS_PER_CPU * session.num_cpus()
    num_done, said_s = 0, time.monotonic()
    while waiting or running:
        while waiting and len(running) < most_running:
            running.append(task.remote(waiting.pop(), output, models))
        (done, *_), running = ray.wait(running, num_returns=1)
        found = ray.get(done)
        yield from found
        num_done += len(found)
        if time.monotonic() - said_s > _SAID_EVERY_S:
            said_s = time.monotonic()
            say(f"page: pictures of {num_done} of {num_cards} images")
