"""A dry run: say what a run would do and about how long it would take. Nothing is written."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from vqad import tables
from vqad.inspection import history, stages
from vqad.inspection.inspector import Inspector, InspectorOptions
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import Plan, make_plan
from vqad.inspection.summary import Say
from vqad.inspection.survey import left_out_text

_NUM_TIMED: Final = 8  # images
_MOST_STRAYS: Final = 5  # files that are named


def dry_run(job: InspectJob, say: Say) -> dict[str, Any]:
    """Say what a run would do; returns its counts. Raises as ``survey`` does."""
    plan = make_plan(job)
    for line in describe(plan):
        say(line)
    for category, number in sorted(Counter(plan.todo["category"].to_pylist()).items()):
        version = plan.versions.get(category, "no detector: rejects")
        say(f"{category}: {number} images by {version}")
    for shard in plan.shards:
        number_or_some = "some" if shard.num_expected is None else shard.num_expected
        say(f"{shard.listed.image}: {number_or_some} images")
    return {
        "dry_run": True,
        "listed": plan.num_todo + plan.num_skipped,
        "skipped": plan.num_skipped,
        "images": plan.num_todo,
        "left_out": plan.left_out,
        "unread_shards": plan.num_unread_shards,
        "seconds": _estimate_seconds(job, plan, say),
    }


def describe(plan: Plan) -> Iterator[str]:
    """Lines on what a plan will do, and on what it leaves aside."""
    unread = plan.num_unread_shards
    more = f", and those in {unread} shard{'s' * (unread > 1)}" if unread else ""
    yield f"{plan.num_todo} images to inspect{more}, {plan.num_skipped} have their verdict already"
    if plan.left_out:
        yield f"left out by suffix: {left_out_text(plan.left_out)}"
    if plan.ledger.version != tables.VERDICTS_VERSION:
        yield (
            f"verdicts of version {plan.ledger.version} are there, and the run goes on in it; for "
            f"the columns of version {tables.VERDICTS_VERSION} give a new --output"
        )
    for text in sorted(set(plan.slow_formats.values())):
        some = [category for category, other in plan.slow_formats.items() if other == text]
        yield f"{', '.join(some)}: in {text}, which is no faster than float32"
    for category, version in plan.shadows.versions.items():
        yield f"shadow of {category}: {version}"
    for category, reason in plan.shadows.left_out.items():
        yield f"warning: no shadow of {category}, {reason}"
    strays = plan.ledger.passed_over
    for stray in strays[:_MOST_STRAYS]:
        yield f"warning: passed over {stray}"
    if len(strays) > _MOST_STRAYS:
        yield f"warning: passed over {len(strays) - _MOST_STRAYS} more files in the tables"


def _estimate_seconds(job: InspectJob, plan: Plan, say: Say) -> float | None:
    rate_s = history.seconds_per_image(list(history.last_runs(job.output)))
    source = "at the rate of the last runs"
    if rate_s is None:
        rate_s, source = _time_here(job, plan), "at the rate of one CPU core of this machine"
    if rate_s is None:
        say("cannot estimate the time: there are neither images to try nor earlier runs")
        return None
    seconds = round(rate_s * plan.num_todo, 1)
    more = ", without the images in unread shards" * bool(plan.num_unread_shards)
    say(f"about {seconds:.0f} s, {source}{more}")
    return seconds


def _time_here(job: InspectJob, plan: Plan) -> float | None:
    """Seconds per image, from a few images that are inspected in this process."""
    few = plan.todo.slice(0, _NUM_TIMED)
    options = InspectorOptions(
        models=job.models,
        versions=plan.versions,
        run=plan.run,
        batch_size=job.batch_size,
        maps="none",
        num_threads=1,
        shadows=plan.shadows.versions,
    )
    inspector = Inspector(options)
    for category in set(few["category"].to_pylist()) & set(plan.versions):
        if category in plan.shadows.versions:
            inspector.shadows.get(category)
        inspector.detectors.get(category)  # the time to load a detector is not an image's
    start_s = time.monotonic()
    inspector.inspect(stages.decode(few, forms=plan.forms))
    return (time.monotonic() - start_s) / len(few) if len(few) else None
