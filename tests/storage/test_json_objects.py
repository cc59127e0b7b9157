"""JSON objects in files: written for people, and refused by a text that names no file."""

import pytest

from vqad.storage import json_objects


def test_what_is_encoded_is_decoded() -> None:
    value = {"b": 1, "a": [None, "ä"]}
    assert json_objects.decoded(json_objects.encoded(value)) == value
    assert json_objects.encoded({"b": 1}) == b'{\n  "b": 1\n}\n'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not JSON"),
        (b'{"a": ', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "is not a JSON object"),
    ],
)
def test_what_is_no_object_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        json_objects.decoded(data)
