"""Putting a version in force as a person asks for it: first reasons against it, then the change.

`vqad.detection.versions.promote` changes what is in force and asks for nothing but a version that
loads. This module asks what else speaks against a version.
"""

from vqad.detection import versions
from vqad.inspection.recall_check import recall_check
from vqad.inspection.summary import Say
from vqad.storage.errors import VqadError
from vqad.storage.promotions import Change


class RefusedError(VqadError, ValueError):
    """A version that is not put in force without --force."""


def promote(
    models: str,
    category: str,
    version: str,
    *,
    who: str,
    why: str,
    say: Say,
    output: str = "",
    force: bool = False,
) -> Change | None:
    """Put a version in force, unless there are reasons against it; None if it is in force already.

    With ``force`` the reasons are not looked for. Raises RefusedError, and DetectorError for a
    version that does not load.
    """
    versions.check_loads(models, category, version)
    if not force:
        reasons = reasons_against(models, category, version, output=output, say=say)
        if reasons:
            raise RefusedError(
                f"{category} {version} is not put in force: {'; '.join(reasons)}; give --force to "
                "put it in force nevertheless"
            )
    return versions.promote(models, category, version, who=who, why=why)


def reasons_against(
    models: str, category: str, version: str, *, output: str, say: Say
) -> list[str]:
    """Why a version that loads should not be put in force, a text for each reason.

    ``output`` is an output whose confirmed defects are asked, or "". ``say`` takes a line about
    those of them that can't be asked: they are no reason.
    """
    if not output:
        return []
    found = recall_check(output, models, category, version, say)
    for line in found.doubts(output):
        say(line)
    return found.reasons(output)
