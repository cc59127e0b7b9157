"""Regular expressions that people give, whose first group names something in an image's path."""

import re


def check_pattern(option: str, pattern: str, *, names: str, example: str) -> None:
    """Raise ValueError for a pattern without a group; ``names`` is what the group names."""
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{option} {pattern!r} is not a regular expression: {error}") from error
    if not num_groups:
        raise ValueError(
            f"{option} needs a group that names {names}, such as '{example}', got {pattern!r}"
        )
