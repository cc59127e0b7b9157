"""What a run would do and about how long it would take; nothing is written."""

import time
from collections import Counter
from typing import Any, Final

from vqad.inspection import history, stages
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import Plan
from vqad.inspection.summary import Say

_NUM_TRIED: Final = 8  # images


def described(settled: Plan) -> str:
    """What a plan amounts to, in one line."""
    unread = sum(each.num_expected is None for each in settled.shards)
    more = f", and those in {unread} shard{'s' * (unread > 1)}" if unread else ""
    return (
        f"{settled.num_todo} images to inspect{more}, "
        f"{settled.num_skipped} have their verdict already"
    )


def foresee(job: InspectJob, settled: Plan, say: Say) -> dict[str, Any]:
    """Say it; returns the summary of having done nothing."""
    say(described(settled))
    for category, number in sorted(Counter(settled.todo["category"].to_pylist()).items()):
        version = settled.versions.get(category, "no detector: rejects")
        say(f"{category}: {number} images by {version}")
    for shard in settled.shards:
        some = "some" if shard.num_expected is None else shard.num_expected
        say(f"{shard.listed.image}: {some} images")
    seconds = _seconds(job, settled, say)
    return {
        "dry_run": True,
        "listed": settled.num_todo + settled.num_skipped,
        "skipped": settled.num_skipped,
        "images": settled.num_todo,
        "unread_shards": sum(each.num_expected is None for each in settled.shards),
        "seconds": seconds,
    }


def _seconds(job: InspectJob, settled: Plan, say: Say) -> float | None:
    each_s = history.seconds_an_image(list(history.last_runs(job.output)))
    told = "as the last runs did"
    if each_s is None:
        each_s, told = _tried(job, settled), "as one core here just did a few of them"
    if each_s is None:
        say("how long cannot be told yet")
        return None
    seconds = round(each_s * settled.num_todo, 1)
    more = "" if settled.is_exact else ", without those in shards that were not read yet"
    say(f"about {seconds:.0f} s, {told}{more}")
    return seconds


def _tried(job: InspectJob, settled: Plan) -> float | None:
    """Seconds an image of a few that are inspected here."""
    few = settled.todo.slice(0, _NUM_TRIED)
    options = stages.InspectorOptions(
        models=job.models,
        versions=settled.versions,
        run=settled.run,
        batch_size=job.batch_size,
        maps="none",
        num_threads=1,
    )
    inspector = stages.Inspector(options)
    for category in set(few["category"].to_pylist()) & set(settled.versions):
        inspector.detectors.get(category)  # loading is no part of an image
    start_s = time.monotonic()
    inspector.inspect(stages.decode(few, sizes_px=settled.sizes_px))
    return (time.monotonic() - start_s) / len(few) if len(few) else None
