"""`vqad threshold`: choose a threshold, save a version that has it, apply it, put it in force."""

import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

from vqad.detection import new_threshold, versions
from vqad.detection.same_fit import SameFit, same_fit
from vqad.detection.saved_categories import current_version
from vqad.inspection import judged_again, ledger, product_parts, sink
from vqad.inspection.judged_again import Applied
from vqad.inspection.promotion import RefusedError, reasons_against
from vqad.inspection.summary import Say
from vqad.inspection.threshold_choice import Choice, choose, explained
from vqad.inspection.threshold_job import ThresholdJob
from vqad.storage import errors, lease, promotions


def set_threshold(job: ThresholdJob, say: Say) -> dict[str, Any]:
    """Carry out a job; returns its summary.

    Killed at any moment and run again, it ends in the same: a version with the same threshold for
    the same reason is taken again, and rows that it has judged are left alone. Raises a VqadError
    or ValueError where nothing was written, and IncompleteError where the work could not be done.
    """
    start_s = time.monotonic()
    old = same_fit(job.models, job.category, current_version(job.models, job.category))
    if job.apply and not sink.parts(job.apply, "verdicts"):
        raise ValueError(f"--apply: {job.apply} has no verdicts; give the output of an inspection")
    with lease.held(job.apply, lease.new_run()) if job.apply else nullcontext() as held:
        done = ledger.read(job.apply) if job.apply else None  # refuses parts of a later program
        chosen = choose(job, old, say)
        replace(old.settings, threshold=chosen.threshold)  # raises before anything is written
        for line in explained(chosen, old.settings.unit):
            say(line)
        with errors.work_begun():
            version = new_threshold.save(
                job.models, old, chosen.threshold, chosen.record, chosen.kept_scores
            )
            new = same_fit(job.models, job.category, version)
            if job.promote:  # before any row has a verdict by a version that is then refused
                _refuse_losses(job, version, say)
            applied = None
            if job.apply and held and done:
                ledger.remove_superseded(job.apply, done)
                sink.remove_orphans(job.apply)
                applied = _applied(job.apply, new, held, say)
            if job.promote:
                _promote(job, version, chosen)
    in_force = current_version(job.models, job.category) == version
    say(f"version {version} is {'' if in_force else 'not '}in force")
    return _summary(old, new, chosen, applied) | {
        "in_force": in_force,
        "seconds": round(time.monotonic() - start_s, 1),
    }


def _applied(output: str, new: SameFit, held: lease.Lease, say: Say) -> Applied:
    applied = judged_again.apply(output, new, held)
    if product_parts.make_again(output, held.check):
        say("the table of parts is made again")
    say(
        f"{applied.updated} rows are judged again: {applied.to_normal} are normal now and "
        f"{applied.to_defect} defects"
    )
    if applied.kept_old:
        say(
            f"{applied.kept_old} rows keep their old version, because their maps were not kept, or "
            "do not have the scores of the rows: vqad inspect --redo changed inspects them when "
            "the version is in force"
        )
    if applied.by_other_detectors:
        say(f"{applied.by_other_detectors} rows are of other detectors and stay as they are")
    return applied


def _refuse_losses(job: ThresholdJob, version: str, say: Say) -> None:
    """Raise RefusedError if the version would lose a confirmed defect of one of the outputs."""
    for output in dict.fromkeys([*job.nights, *([job.apply] if job.apply else [])]):
        if reasons := reasons_against(job.models, job.category, version, output=output, say=say):
            raise RefusedError(
                f"{job.category} {version} is saved and not put in force: {'; '.join(reasons)}; "
                f"vqad models promote --version {version} --force puts it in force nevertheless"
            )


def _promote(job: ThresholdJob, version: str, chosen: Choice) -> None:
    why = f"vqad threshold: {chosen.record.rule} {chosen.record.asked:g}"
    versions.promote(job.models, job.category, version, who=promotions.default_who(), why=why)


def _summary(old: SameFit, new: SameFit, chosen: Choice, applied: Applied | None) -> dict[str, Any]:
    record = chosen.record
    return {
        "category": new.settings.category,
        "version": new.version,
        "from_version": old.version,
        "threshold": chosen.threshold,
        "old_threshold": old.settings.threshold,
        "rule": record.rule,
        "asked": record.asked,
        "normal_scores": record.num_scores,
        "expected_false_alarm_rate": record.rate and round(record.rate, 6),
        "deviation": record.deviation and round(record.deviation, 6),
        "is_bound": record.is_bound,
        "applied": applied and asdict(applied),
    }
