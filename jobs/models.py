"""`vqad models`: the saved versions of the detectors, and which of them is in force."""

from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs import categories
from jobs.command import choose, run, say
from jobs.options import Options, Uri, UsageError


class ModelsOptions(Options):
    """The folder of the detectors."""

    after_stop = "the version in force is the old one or the new one; see vqad models show"

    models: Uri = Field(description="folder with the detectors")


class ListCommand(ModelsOptions):
    """List the saved versions of every category, and the one in force."""

    model_config = SettingsConfigDict(cli_prog_name="vqad models list")
    example = "--models s3://factory/models"

    category: str = Field(default="", description="list this category alone; default: all")


class ShowCommand(ModelsOptions):
    """Show the settings of a version, and the log of what was put in force."""

    model_config = SettingsConfigDict(cli_prog_name="vqad models show")
    example = "--models s3://factory/models --category bottle"

    category: str = Field(description="category of the detector")
    version: str = Field(default="", description="version to show; default: the one in force")


class _ChangeOptions(ModelsOptions):
    category: str = Field(description="category of the detector")
    why: str = Field(default="", description="reason, for the log; default: none")
    who: str = Field(
        default="", description="who asks for the change, for the log; default: USER@HOST"
    )


class PromoteCommand(_ChangeOptions):
    """Put a saved version in force: inspections that start from now on use it."""

    model_config = SettingsConfigDict(cli_prog_name="vqad models promote")
    example = (
        "--models s3://factory/models --category bottle --version 20261126T205204Z-1a2b3c4d "
        "--why quieter"
    )

    version: str = Field(description="version to put in force")
    output: Uri = Field(
        default="",
        description="output of an inspection that speaks for or against the version: what its "
        "latest shadow night found is shown, and a version that would lose a defect that was "
        "confirmed by a review is refused; default: none",
    )
    force: bool = Field(
        default=False, description="put the version in force although something speaks against it"
    )


class RollbackCommand(_ChangeOptions):
    """Put the version in force again that was so before the last promotion."""

    model_config = SettingsConfigDict(cli_prog_name="vqad models rollback")
    example = "--models s3://factory/models --category bottle --why misses-scratches"


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    commands = {
        "list": (
            "list the saved versions, and the one in force",
            lambda rest: run("models list", ListCommand, rest, list_versions),
        ),
        "show": (
            "show a version, and the log of what was put in force",
            lambda rest: run("models show", ShowCommand, rest, show),
        ),
        "promote": (
            "put a version in force",
            lambda rest: run("models promote", PromoteCommand, rest, promote),
        ),
        "rollback": (
            "put the version in force again that was so before the last promotion",
            lambda rest: run("models rollback", RollbackCommand, rest, rollback),
        ),
    }
    return choose("vqad models", commands, arguments, example=f"vqad models list {_EXAMPLE}")


_EXAMPLE = ListCommand.example
_MOST_LINES = 50  # images that are named


def list_versions(options: ListCommand) -> tuple[dict[str, Any], int]:
    """Show a table of all versions; the summary has their names."""
    from vqad.detection import versions

    names = versions.categories(options.models)
    if options.category:
        _check_category(options.category, names, options.models)
        names = [options.category]
    summary: dict[str, Any] = {}
    for category in names:
        found = versions.saved_versions(options.models, category)
        in_force = next((each.version for each in found if each.in_force), None)
        summary[category] = {"in_force": in_force, "versions": [each.version for each in found]}
        say(f"{category}:")
        for each in found:
            say(f"  {'*' if each.in_force else ' '} {each.version}  {_line(each)}")
    say("* in force")
    return {"categories": summary}, 0


def _line(saved: Any) -> str:
    """Form and threshold of a version, and how it came about."""
    if saved.settings is None:
        return f"can't be read: {saved.made_by}"
    threshold = f"threshold {saved.settings.threshold:.4g} {saved.settings.unit}"
    return f"{saved.settings.form:6}  {threshold}, {saved.made_by}"


def show(options: ShowCommand) -> tuple[dict[str, Any], int]:
    """Show one version and the log; the summary has both."""
    from vqad.detection import saved_detector, versions
    from vqad.storage import promotions

    _check_category(options.category, versions.categories(options.models), options.models)
    in_force = promotions.version_in_force(options.models, options.category)
    version = options.version or in_force
    if not version:
        raise UsageError(f"no version of {options.category} is in force; give --version")
    settings = saved_detector.load_settings(options.models, options.category, version)
    log = promotions.history(options.models, options.category)
    shown = {
        "category": options.category,
        "version": version,
        "in_force": version == in_force,
        "form": settings.form,
        "kind": settings.kind,
        "threshold": settings.threshold,
        "unit": settings.unit,
        "eta": settings.resample.eta,
        "minimum_area_px": settings.minimum_area_px,
        **_areas(settings),
        "resize": settings.resize,
        "roi_source_px": settings.roi_source_px,
        "images": settings.found.num_images,
        "held_out": len(settings.found.held_out),
        "trained_by": settings.found.run,
        "calibrated_from": settings.found.calibrated_from,
    }
    for name, value in shown.items():
        say(f"{name:22} {value}")
    for change in log:
        say(_log_line(change))
    return shown | {"log": [_logged(each) for each in log]}, 0


def _areas(settings: Any) -> dict[str, float | None]:
    """The minimum area in other units, and the scale; None where they are not known."""
    scale, pixel_px = settings.px_per_mm, settings.found.map_pixel_area_px
    area_px = pixel_px and round(settings.minimum_area_px * pixel_px, 1)
    return {
        "minimum_area_source_px": area_px,
        "minimum_area_mm2": area_px / scale**2 if area_px and scale else None,
        "px_per_mm": scale,
    }


def _log_line(change: Any) -> str:
    done = "" if change.carried_out else ", NOT carried out"
    why = f": {change.why}" if change.why else ""
    was = change.from_version or "none"
    return f"{change.at} {change.who} {change.action}, {was} -> {change.to_version}{done}{why}"


def _logged(change: Any) -> dict[str, Any]:
    entry: dict[str, Any] = change.record()
    del entry["after"]
    return entry | {"carried_out": change.carried_out}


def promote(options: PromoteCommand) -> tuple[dict[str, Any], int]:
    """Put the version in force; the summary says from which to which."""
    from vqad.inspection import promotion

    as_shadow = _disagreements(options)
    change = promotion.promote(
        options.models,
        options.category,
        options.version,
        who=_who(options),
        why=options.why,
        say=say,
        output=options.output,
        force=options.force,
    )
    return _changed(options.category, options.version, change) | as_shadow, 0


def _disagreements(options: PromoteCommand) -> dict[str, Any]:
    """Show how the version judged as the shadow of its latest night; nothing without an output."""
    if not options.output:
        return {}
    from vqad.inspection import shadow_comparison

    found = shadow_comparison.compare(
        options.output,
        most=_MOST_LINES,
        category=options.category,
        shadow_version=options.version,
    )
    if not found.images:
        say(f"{options.output} has no night in which {options.version} was a shadow")
    else:
        say(f"as a shadow: another verdict for {found.disagreements} of {found.images} images")
    for each in found.worst:
        say(
            f"  {each.verdict} {_score(each.score)} -> {each.shadow_verdict} "
            f"{_score(each.shadow_score)}  {each.image}"
        )
    return {"shadow_images": found.images, "disagreements": found.disagreements}


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.4g}"


def rollback(options: RollbackCommand) -> tuple[dict[str, Any], int]:
    """Put the earlier version in force; the summary says from which to which."""
    from vqad.detection import versions

    change = versions.rollback(options.models, options.category, who=_who(options), why=options.why)
    return _changed(options.category, change.to_version, change), 0


def _changed(category: str, version: str, change: Any) -> dict[str, Any]:
    if change is None:
        say(f"{category}: {version} is in force already")
        return {"category": category, "changed": False, "from": version, "to": version}
    was = change.from_version or "none"
    say(f"{category}: {was} -> {version}; running inspections go on with the version they have")
    return {"category": category, "changed": True, "from": change.from_version, "to": version}


def _who(options: _ChangeOptions) -> str:
    from vqad.storage import promotions

    return options.who or promotions.default_who()


def _check_category(category: str, existing: list[str], models: str) -> None:
    categories.check([category], existing, models, option="--category")
