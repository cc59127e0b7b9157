"""One local Ray for all tests, one archive with all that archives have, and one run over it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.on_ray import made
from tests.s3server import S3Server
from vqad import archives, evaluation
from vqad.tables import VERDICTS

# Ray warns of its own settings while it copies them.
ON_RAY = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::Warning:ray")]


@pytest.fixture(scope="session")
def local_ray(s3: S3Server) -> Iterator[None]:
    """A local Ray, started after the S3 server: its workers inherit the AWS variables."""
    from vqad.on_ray import session

    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("RAY_ADDRESS", raising=False)
        with session.connected():
            yield


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An archive, its detectors, and the output of an inspection."""

    archive: Path
    models: Path
    output: Path
    odd: dict[str, str]  # error words by name of the files in fabric/test/odd
    summary: dict[str, Any]


def inspect(**options: Any) -> dict[str, Any]:
    """`vqad inspect` in this process; returns the summary."""
    from jobs import inspect_archive

    summary, code = inspect_archive.work(
        inspect_archive.InspectCommand(**{name: str(value) for name, value in options.items()})
    )
    assert code == 0
    return summary


def verdicts(output: Path | str) -> list[dict[str, Any]]:
    """All rows of all categories, sorted by image."""
    root = archives.join(str(output), "verdicts")
    tables = [
        evaluation.read_table(archives.join(root, folder), VERDICTS.names)
        for folder in archives.list_names(root)
    ]
    return sorted(pa.concat_tables(tables).to_pylist(), key=lambda row: row["image"])


@pytest.fixture(scope="session")
def finished(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Detectors and an archive, inspected once for all folders of tests that import this."""
    return _finish(tmp_path_factory.getbasetemp() / "finished")


@cache
def _finish(home: Path) -> Finished:
    """Two categories with detectors, one without, an image in no folder, and odd files."""
    archive, models, output = home / "archive", home / "models", home / "output"
    made.draw(archive, ("fabric", "washer"))
    for category in ("fabric", "washer"):
        made.save_detector(str(models), category, str(archive))
    made.draw(home / "more", ("ampoule",))
    (archive / "ampoule").mkdir()
    alien = home / "more" / "ampoule" / "test" / "good" / "000.png"
    (archive / "ampoule" / "1.png").write_bytes(alien.read_bytes())
    (archive / "alone.png").write_bytes(alien.read_bytes())
    odd = made.odd_files(archive / "fabric" / "test" / "odd")
    summary = inspect(archive=archive, models=models, output=output, sheets=1)
    return Finished(archive=archive, models=models, output=output, odd=odd, summary=summary)
