"""Any text has a folder of its own, and the names that always worked stay as they were."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vqad.storage import folder_names, uris
from vqad.storage.folder_names import MOST_BYTES, encoded_name, readable_name

# Any code point, halves of surrogate pairs included, as file names that are not UTF-8 have them.
TEXTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=400)
FUNCTIONS = [encoded_name, readable_name]

unhurried = settings(deadline=None)  # other work on the machine is no failure


@pytest.mark.parametrize("name_of", FUNCTIONS)
@unhurried
@given(text=TEXTS)
@example(text="")
@example(text="x" * 300)
@example(text="螺" * 35)
@example(text="..")
@example(text="/")
@example(text="t\udce4st")
@example(text="\ud800" * 70)
@example(text="a\x00b\n")
def test_any_text_has_a_short_visible_name_of_one_folder(name_of, text: str) -> None:
    name = name_of(text)
    assert 0 < len(name.encode()) <= MOST_BYTES
    assert "/" not in name
    assert not name.startswith(".")
    assert not any(character < " " for character in name)
    assert uris.join("file:///a", name).startswith("file:///a/")


@pytest.mark.parametrize("name_of", FUNCTIONS)
@unhurried
@given(text=TEXTS, other=TEXTS)
@example(text="", other=" ")
@example(text="ä", other="\udcc3\udca4")
@example(text="a/b", other="a%2Fb")
@example(text="x" * 300, other="x" * 301)
def test_two_texts_never_share_a_name(name_of, text: str, other: str) -> None:
    names = {name_of(each) for each in {text, other}}
    # The name of a text is a text, too, and none of the names is that of another text.
    names |= {name_of(name) for name in names}
    texts = {text, other, name_of(text), name_of(other)}
    assert len({name_of(each) for each in texts}) == len(texts)


@unhurried
@given(text=st.text(min_size=1))
@example(text="metal nut")
@example(text="_unknown")
@example(text=".hidden")
@example(text="pill(1)+")
@example(text="Größe")
@example(text="x" * MOST_BYTES)
def test_encoded_names_that_fit_stay_as_they_were(text: str) -> None:
    before = quote(text, safe=" ")
    if before.startswith((".", "_")):
        before = f"%{ord(before[0]):02X}{before[1:]}"
    if len(before) <= MOST_BYTES:
        assert encoded_name(text) == before
    else:
        assert encoded_name(text) != before


@unhurried
@given(
    text=st.text(
        st.characters(min_codepoint=32, exclude_characters="/\x7f", exclude_categories=["Cs"]),
        min_size=1,
    )
)
@example(text="pill(1)+%20")
@example(text="Größe 螺丝")
@example(text="_x")
def test_readable_names_are_the_texts_themselves(text: str) -> None:
    if text.startswith(".") or len(text.encode()) > MOST_BYTES:
        assert readable_name(text) != text
    else:
        assert readable_name(text) == text


@pytest.mark.parametrize("name_of", FUNCTIONS)
@pytest.mark.parametrize("text", ["", "x" * 300, "螺" * 100, "a/b", "t\udce4st", " ", "\n"])
def test_a_local_disk_takes_every_name(name_of, text: str, tmp_path: Path) -> None:
    folder = tmp_path / name_of(text)
    folder.mkdir()
    assert list(tmp_path.iterdir()) == [folder]


def test_a_cut_name_keeps_its_beginning_and_no_half_of_a_code() -> None:
    name = encoded_name("螺" * 35)
    start, _, digest = name.partition("!")
    assert len(digest) == folder_names._DIGEST_CHARACTERS
    assert start == quote("螺" * 15)
