"""A whole night: survey, lease, plan, the chain of stages, sheets, comparison, run.json, page."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from vqad.inspection import comparison, night_warnings, notify, product_parts, run_report
from vqad.inspection.dry_run import describe
from vqad.inspection.job import InspectJob
from vqad.inspection.monitoring import Monitoring
from vqad.inspection.plan import Plan, make_plan
from vqad.inspection.summary import InspectSummary, Say, shadow_lines
from vqad.inspection.survey import survey
from vqad.on_ray import contact_sheets, failures, session
from vqad.on_ray.inspect import check_places, inspect
from vqad.on_ray.report import make_report
from vqad.report.job import ReportJob
from vqad.storage import errors, files, lease, output_layout
from vqad.storage.errors import IncompleteError, VqadError

# What to do where the memory is too small.
FEWER: Final = "give a smaller --num-actors or --batch-size"


def inspect_archive(
    job: InspectJob,
    say: Say,
    *,
    monitoring: Monitoring | None = None,
    num_sheets: int = 0,
    with_page: bool = False,
    asked: dict[str, Any] | None = None,
    command: str = "inspect",
) -> InspectSummary:
    """Do a whole night: inspect what has no verdict yet, and write sheets, run.json and page.

    Takes the output's lease for the time of the run, and connects to Ray if there is work and no
    Ray is connected. ``say`` takes lines of progress, ``num_sheets`` is the number of contact
    sheets. ``asked`` are the options as they were given and ``command`` the command's name, for
    run.json. A page that can't be made is a warning and no error. Raises a VqadError or ValueError
    where nothing was started, such as InUseError for an output in use, and IncompleteError where
    the run began and could not be finished.
    """
    monitoring = monitoring or Monitoring()
    try:
        summary = _inspect_archive(job, say, monitoring, num_sheets, with_page, asked, command)
    except (VqadError, ValueError, OSError) as error:
        _notify(job, say, monitoring, None, error)
        raise
    _notify(job, say, monitoring, summary, None)
    return summary


def _inspect_archive(
    job: InspectJob,
    say: Say,
    monitoring: Monitoring,
    num_sheets: int,
    with_page: bool,
    asked: dict[str, Any] | None,
    command: str,
) -> InspectSummary:
    surveyed = survey(job)
    with lease.held(job.output, surveyed.run) as held:
        plan = make_plan(job, surveyed)
        for line in describe(plan):
            say(line)
        with _ray_for(plan):
            if plan.has_work:
                check_places(job, say)
            with errors.work_begun(), failures.explained(FEWER):
                num_most_severe = num_sheets * run_report.ROWS_PER_SHEET
                summary = inspect(job, plan, say, num_most_severe=num_most_severe, held=held)
                for line in shadow_lines(summary):
                    say(line)
                _write_sheets(job, summary, say, num_sheets)
                held.check()
                if command == "inspect":
                    _watch(job, monitoring, summary, say)
                _make_parts(job, held, summary, say)
                run_report.write_run(job, summary, asked=asked, command=command)
            if with_page:
                _make_page(job, monitoring, plan, say)
    return summary


def _write_sheets(job: InspectJob, summary: InspectSummary, say: Say, num_sheets: int) -> None:
    contact_sheets.write_sheets(
        summary.most_severe,
        say,
        output=job.output,
        run=summary.run,
        models=job.models,
        versions=summary.versions,
        num_sheets=num_sheets,
    )


def _make_parts(job: InspectJob, held: lease.Lease, summary: InspectSummary, say: Say) -> None:
    """Make the table of product parts again, after all verdicts and before run.json."""
    if job.part_pattern is None:
        return
    found = product_parts.make(job.output, job.part_pattern, job.archive, held.check)
    summary.product_parts = found
    if found.unmatched:
        say(
            f"{found.unmatched} images are in no part: --part-pattern does not match their path, "
            f"such as {found.example}"
        )


def _make_page(job: InspectJob, monitoring: Monitoring, plan: Plan, say: Say) -> None:
    """Make the page about the output if it may have changed, or say why it could not be made."""
    try:
        if not plan.has_work and files.exists(output_layout.report_page(job.output)):
            return
        wanted = ReportJob(output=job.output, models=job.models, history=monitoring.history)
        made = make_report(wanted, say)
        say(f"page: {made.page}")
    except Exception as error:  # the verdicts are complete, whatever happens to their page
        reason = " ".join(str(error).split()) or type(error).__name__
        say(f"warning: the page could not be made: {reason}; vqad report makes it later")


def _ray_for(plan: Plan) -> AbstractContextManager[None]:
    """A Ray if the plan needs one: starting it takes seconds."""
    return session.connected() if plan.has_work else nullcontext()


def _watch(job: InspectJob, monitoring: Monitoring, summary: InspectSummary, say: Say) -> None:
    """Add warnings to the summary, and say them."""
    counts = {name: summary.count(name[:-1]) for name in ("rejects", "defects")}
    summary.beyond_limits += night_warnings.of_limits(monitoring, images=summary.images, **counts)
    statistics = {name: each.record() for name, each in summary.statistics.items()}
    summary.comparison = comparison.of_night(
        job, monitoring, summary.run, statistics, summary.versions
    )
    for warning in summary.comparison.warnings:
        say(f"warning: {warning.message}")
    if note := summary.comparison.note():
        say(note)


def _notify(
    job: InspectJob,
    say: Say,
    monitoring: Monitoring,
    summary: InspectSummary | None,
    error: Exception | None,
) -> None:
    if not monitoring.notify:
        return
    if summary:
        found = notify.message(job, summary, code=1 if summary.beyond_limits else 0)
    else:
        code = 1 if isinstance(error, IncompleteError) else 2
        found = notify.message(job, None, code=code, error=str(error))
    notify.send(monitoring.notify, found, say)
