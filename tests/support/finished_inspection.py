"""An archive with good, odd and bad files, inspected once for all tests that read the result."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support import small_detectors
from vqad.evaluation import results
from vqad.storage import files, output_layout, uris
from vqad.tables import VERDICTS

# Ray warns about its own settings while it copies them.
ON_RAY = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::Warning:ray")]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An archive, its detectors, and the output of an inspection."""

    archive: Path
    models: Path
    output: Path
    odd: dict[str, str]  # expected error of each file in fabric/test/odd
    summary: dict[str, Any]


def inspect(**options: Any) -> dict[str, Any]:
    """`vqad inspect` in this process, without a page, however many images it rejects."""
    from jobs import inspect_archive

    given = {"max_reject_fraction": 1, "report": False} | options
    summary, code = inspect_archive.work(
        inspect_archive.InspectCommand(**{name: str(value) for name, value in given.items()})
    )
    assert code == 0
    return summary


def verdicts(output: Path | str) -> list[dict[str, Any]]:
    """All rows of all categories, sorted by image."""
    root = output_layout.table(str(output), "verdicts")
    tables = [
        results.read_table(uris.join(root, folder), VERDICTS.names)
        for folder in files.list_names(root)
    ]
    return sorted(pa.concat_tables(tables).to_pylist(), key=lambda row: row["image"])


@cache
def finish(home: Path) -> Finished:
    """Two categories with detectors, one without, an image outside any folder, and odd files."""
    archive, models, output = home / "archive", home / "models", home / "output"
    small_detectors.draw(archive, ("fabric", "washer"))
    for category in ("fabric", "washer"):
        small_detectors.save_detector(str(models), category, str(archive))
    small_detectors.draw(home / "more", ("ampoule",))
    (archive / "ampoule").mkdir()
    alien = home / "more" / "ampoule" / "test" / "good" / "000.png"
    (archive / "ampoule" / "1.png").write_bytes(alien.read_bytes())
    (archive / "alone.png").write_bytes(alien.read_bytes())
    odd = small_detectors.odd_files(archive / "fabric" / "test" / "odd")
    summary = inspect(archive=archive, models=models, output=output, sheets=1)
    return Finished(archive=archive, models=models, output=output, odd=odd, summary=summary)
