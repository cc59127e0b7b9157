"""Marks as the page saves them, made of verdict rows."""

import json
from pathlib import Path
from typing import Any

NAMES = ("image", "category", "run", "model_version", "score")
AT = "2026-11-23T07:00:00.000Z"


def line_of(row: dict[str, Any], mark: str, **changes: Any) -> dict[str, Any]:
    """The line of a row."""
    of_row = {name: row[name] for name in NAMES}
    return of_row | {"mark": mark, "remark": "", "who": "Ada", "at": AT} | changes


def save(path: Path, lines: list[dict[str, Any]]) -> Path:
    """A file of lines."""
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path
