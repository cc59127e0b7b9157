"""A folder of good images is known by its name."""

import pytest

from vqad.images.good_folders import is_good


@pytest.mark.parametrize("name", ["good", "ok", "normal", "Good", "OK", "Normal"])
def test_names_of_good_folders_are_known_in_any_case(name: str) -> None:
    assert is_good(name)


@pytest.mark.parametrize("name", ["", "bad", "ko", "abnormal", "not_ok", "goods", "test"])
def test_no_other_name_is_taken_for_one(name: str) -> None:
    assert not is_good(name)
