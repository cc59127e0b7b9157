"""Places below MODELS: as they always were for plain names, and inside it for any other text."""

import pytest

from vqad.storage import models_layout


def test_plain_names_have_the_places_that_they_always_had() -> None:
    assert models_layout.version("s3://b/models", "metal nut", "2026-1") == (
        "s3://b/models/metal%20nut/2026-1"
    )
    assert models_layout.current("/models", "washer") == "/models/washer/current.json"
    assert models_layout.run("/models", "monday") == "/models/.runs/monday"
    assert models_layout.checkpoints_name("washer", "0123") == "washer-0123"


@pytest.mark.parametrize("text", ["..", "../../etc", "", ".runs", "a/b", "x" * 300])
def test_no_text_leads_out_of_the_folder_or_into_that_of_the_runs(text: str) -> None:
    for place in (models_layout.version("/m", text, "1"), models_layout.run("/m", text)):
        below = place.removeprefix("/m/").removeprefix(".runs/").removesuffix("/1")
        assert "/" not in below
        assert not below.startswith(".")
        assert 0 < len(below) <= 200


def test_a_category_in_any_script_has_a_name_in_ascii_for_its_checkpoints() -> None:
    name = models_layout.checkpoints_name("Größe 螺丝", "0123456789ab")
    assert name.isascii()
    assert models_layout.checkpoints_name("Große 螺丝", "0123456789ab") != name
