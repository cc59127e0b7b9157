"""A whole night: survey, lease, plan, the chain of stages, contact sheets, comparison, run.json."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from vqad.inspection import comparison, run_report
from vqad.inspection.dry_run import describe
from vqad.inspection.job import InspectJob
from vqad.inspection.monitoring import Monitoring
from vqad.inspection.plan import Plan, make_plan
from vqad.inspection.summary import InspectSummary, Say
from vqad.inspection.survey import survey
from vqad.on_ray import contact_sheets, failures, session
from vqad.on_ray.inspect import check_places, inspect
from vqad.storage import errors, lease

# What to do where the memory is too small.
FEWER: Final = "give a smaller --num-actors or --batch-size"


def inspect_archive(
    job: InspectJob,
    say: Say,
    *,
    monitoring: Monitoring | None = None,
    num_sheets: int = 0,
    asked: dict[str, Any] | None = None,
    command: str = "inspect",
) -> InspectSummary:
    """Do a whole night: inspect what has no verdict yet, and write sheets and run.json.

    Takes the output's lease for the time of the run, and connects to Ray if there is work and no
    Ray is connected. ``say`` takes lines of progress, ``num_sheets`` is the number of contact
    sheets. ``asked`` are the options as they were given and ``command`` the command's name, for
    run.json. Raises a VqadError or
    ValueError where nothing was started, such as InUseError for an output in use, and
    IncompleteError where the run began and could not be finished.
    """
    monitoring = monitoring or Monitoring()
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
                contact_sheets.write_sheets(job, summary, say, num_sheets=num_sheets)
                held.check()
                if command == "inspect":
                    _compare(job, monitoring, summary, say)
                run_report.write_run(job, summary, asked=asked, command=command)
    return summary


def _ray_for(plan: Plan) -> AbstractContextManager[None]:
    """A Ray if the plan needs one: starting it takes seconds."""
    return session.connected() if plan.has_work else nullcontext()


def _compare(job: InspectJob, monitoring: Monitoring, summary: InspectSummary, say: Say) -> None:
    statistics = {name: each.record() for name, each in summary.statistics.items()}
    summary.comparison = comparison.of_night(
        job, monitoring, summary.run, statistics, summary.versions
    )
    for warning in summary.warnings:
        say(f"warning: {warning.message}")
    if note := summary.comparison.note():
        say(note)
