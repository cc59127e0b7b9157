"""A saved detector for the tests of this folder."""

from pathlib import Path

import pytest

from tests.support.random_detectors import detector_of


@pytest.fixture
def models(tmp_path: Path) -> str:
    return str(tmp_path / "models")


@pytest.fixture
def saved(models: str) -> Path:
    """Folder of a saved detector of washers."""
    return Path(models, "washer", detector_of().save(models))
