"""One absolute URI for each file, and back."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqad.storage.errors import ArchiveError
from vqad.storage.uris import absolute, encoded, join, path_of, relative, without_secrets

names = (
    st.text(min_size=1, max_size=20)
    .filter(lambda name: "/" not in name and "\0" not in name and name not in (".", ".."))
    .filter(lambda name: all(not 0xD800 <= ord(letter) <= 0xDFFF for letter in name))
)


@given(names)
def test_any_name_comes_back_from_its_uri(name: str) -> None:
    for root in ("/data/archive", "file:///data/archive", "s3://bucket/archive"):
        image = absolute(join(root, name))
        assert relative(image, root) == name
        assert absolute(image) == image


@given(names)
def test_only_an_archive_and_its_member_are_separated_by_a_hash(name: str) -> None:
    image = join("s3://bucket", name)
    assert "#" not in image
    assert ";" not in image
    assert image.isascii()
    assert absolute(f"{image}#member.png") == f"{image}#member.png"


def test_a_local_name_that_is_no_utf8_comes_back() -> None:
    name = os.fsdecode(b"caf\xe9.png")
    uri = absolute(f"/data/{name}")
    assert uri == "file:///data/caf%E9.png"
    assert path_of(uri) == f"/data/{name}"


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("/a/b/", "file:///a/b"),
        ("/a/./c/../b", "file:///a/b"),
        ("/a/100%20", "file:///a/100%2520"),
        ("/", "file:///"),
        ("file:///a%20b/", "file:///a%20b"),
        ("file:///a b#c", "file:///a%20b#c"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a b/c?d", "s3://bucket/a%20b/c%3Fd"),
        ("s3://bucket/a%20b", "s3://bucket/a%20b"),
        ("s3://bucket/(a)=%3D", "s3://bucket/(a)=="),
    ],
)
def test_every_way_to_write_a_place_has_one_absolute_uri(given_: str, expected: str) -> None:
    assert absolute(given_) == expected


def test_a_relative_path_is_below_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("a b/c") == f"file://{encoded(str(tmp_path))}/a%20b/c"


@pytest.mark.parametrize(
    "uri", ["s3://", "s3:///key", "http://host/a", "gs://bucket/a", "file://a"]
)
def test_a_place_of_another_kind_is_refused(uri: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        absolute(uri)
    expected = f"{uri} is neither a local path nor s3://bucket/prefix nor file:///path"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEY:SECRET@bucket/prefix",
        "s3://KEY:SE/CRET@bucket/prefix",
        "s3://KEY%3ASECRET%40bucket/prefix",
        "s3://KEY@bucket/SECRET",
        "https://KEY:SECRET@host/path",
        "https://host/path?user=KEY:SECRET@x",
        "file://KEY:SECRET@host/path",
    ],
)
def test_a_uri_with_a_secret_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        absolute(uri)
    assert str(caught.value) == (
        "a URI with a user name or a key in it is refused, and not repeated here; give "
        "s3://bucket/prefix, and the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )


def test_a_signature_in_a_query_is_not_repeated() -> None:
    with pytest.raises(ArchiveError) as caught:
        absolute("https://bucket.host/key?X-Amz-Signature=SECRET")
    assert str(caught.value).startswith("https://bucket.host/key is neither ")


@pytest.mark.parametrize("uri", ["s3://bucket/a:b@c.png", "file:///a:b@c", "s3://bucket/12:30"])
def test_colons_and_at_signs_in_paths_are_no_secrets(uri: str) -> None:
    assert absolute(uri) == uri
    assert without_secrets(f"{uri}: no such object") == f"{uri}: no such object"


@pytest.mark.parametrize("secret", ["KEY:SECRET@", "KEY:SE/CRET+@", ":SECRET@"])
def test_users_and_passwords_are_taken_out_of_what_others_say(secret: str) -> None:
    said = f"cannot open https://{secret}host:443/a or s3://{secret}b"
    assert without_secrets(said) == "cannot open https://***@host:443/a or s3://***@b"


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(ArchiveError, match=r"^the path is empty; give a folder or s3:"):
        absolute("")


def test_joining_keeps_a_path_as_it_is_typed_and_encodes_below_a_uri() -> None:
    assert join("data/", "a b", "c") == "data/a b/c"
    assert join("s3://bucket/data/", "a b", "c/d") == "s3://bucket/data/a%20b/c/d"
    assert join("s3://bucket", "", "c") == "s3://bucket/c"


@pytest.mark.parametrize("part", ["..", ".", "a/../../b", "/.."])
def test_joining_never_leads_out_of_a_folder(part: str) -> None:
    with pytest.raises(ValueError, match=r"^'\.\.?' is not a valid name below /models$"):
        join("/models", part)


def test_an_image_that_is_the_archive_itself_is_called_by_its_name() -> None:
    assert relative("s3://bucket/a/b%20c.png", "s3://bucket/a/b c.png") == "b c.png"


@pytest.mark.parametrize("archive", ["/data/arch", "s3://data/archive", "/data/archive/other"])
def test_an_image_elsewhere_has_no_path_below_the_archive(archive: str) -> None:
    with pytest.raises(ValueError, match=rf"^file:///data/archive/a.png is not below {archive}$"):
        relative("file:///data/archive/a.png", archive)


def test_everything_local_is_below_the_root_folder() -> None:
    assert relative("file:///a/b.png", "/") == "a/b.png"
