"""What is in force is changed by one write, and the log says truly how it came about."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from vqad.storage import conditional_writes, files, promotions, uris
from vqad.storage.errors import ArchiveError
from vqad.storage.promotions import Change, InForceError


class KilledError(BaseException):
    """Ends a change in the middle, as a kill would: nothing catches it."""


def put(models: str, version: str, **options: Any) -> Change | None:
    return promotions.put_in_force(models, "washer", version, who="ann@line", why="r", **options)


def roll_back(models: str) -> Change | None:
    version = promotions.version_before(models, "washer")
    return put(models, version, action="rollback")


def steps(models: str) -> list[tuple[str, str, str]]:
    """The changes that were carried out: action, from, to."""
    return [
        (each.action, each.from_version, each.to_version)
        for each in promotions.history(models, "washer")
        if each.carried_out
    ]


@pytest.fixture
def models(tmp_path: Path) -> str:
    return str(tmp_path / "models")


def test_a_change_is_logged_with_who_when_from_to_and_why(models: str) -> None:
    put(models, "one")
    change = put(models, "two")
    assert change
    assert promotions.version_in_force(models, "washer") == "two"
    (entry,) = Path(models, "washer", "promotions").glob(f"{change.name}.json")
    assert json.loads(entry.read_text()) == {
        "at": change.at,
        "who": "ann@line",
        "action": "promote",
        "from": "one",
        "to": "two",
        "why": "r",
        "after": change.after,
    }
    assert steps(models) == [("promote", "", "one"), ("promote", "one", "two")]
    current = json.loads(Path(models, "washer", "current.json").read_text())
    assert current == {"version": "two", "promotion": change.name}


def test_a_version_in_force_is_not_put_in_force_again(models: str) -> None:
    put(models, "one")
    assert put(models, "one") is None
    assert steps(models) == [("promote", "", "one")]


def test_a_rollback_goes_to_the_version_before_and_a_second_one_further_back(models: str) -> None:
    for version in ("one", "two", "three"):
        put(models, version)
    roll_back(models)
    assert promotions.version_in_force(models, "washer") == "two"
    roll_back(models)
    assert promotions.version_in_force(models, "washer") == "one"
    put(models, "three")
    roll_back(models)
    assert promotions.version_in_force(models, "washer") == "one"
    with pytest.raises(InForceError, match="no version that was in force before one"):
        roll_back(models)


def test_what_was_put_there_by_hand_is_rolled_back_too(models: str) -> None:
    put(models, "one")
    current = Path(models, "washer", "current.json")
    current.write_text(json.dumps({"version": "older"}))
    with pytest.raises(InForceError, match="no version that was in force before older"):
        promotions.version_before(models, "washer")
    put(models, "two")
    assert promotions.version_before(models, "washer") == "older"
    # The entry is kept, and another version is named: the edit counts as a step of its own.
    current.write_text(json.dumps(json.loads(current.read_text()) | {"version": "three"}))
    assert promotions.version_before(models, "washer") == "two"
    roll_back(models)
    assert promotions.version_before(models, "washer") == "older"


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", ["promotions/", "current.json"])
def test_a_promotion_killed_at_any_write_leaves_a_truthful_state(
    models: str, name: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(models, "one")
    write = files.write_bytes

    def killed(uri: str, data: bytes) -> None:
        if name not in uri:
            return write(uri, data)
        if moment == "after":
            write(uri, data)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", killed)
        with pytest.raises(KilledError):
            put(models, "two")
    was_done = (name, moment) == ("current.json", "after")
    now = promotions.version_in_force(models, "washer")
    assert now == ("two" if was_done else "one")
    assert steps(models)[-1][2] == now
    logged = promotions.history(models, "washer")
    is_left = [each.to_version for each in logged if not each.carried_out]
    assert is_left == (["two"] if (name, moment) in _HALF_DONE else [])
    # The same command again does the rest, and the log has each change once.
    assert (put(models, "two") is None) == was_done
    assert steps(models) == [("promote", "", "one"), ("promote", "one", "two")]
    assert promotions.version_before(models, "washer") == "one"


_HALF_DONE = {("promotions/", "after"), ("current.json", "before")}


def test_readers_find_a_whole_file_at_every_moment_and_the_log_is_one_line(models: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        changes = list(pool.map(lambda n: _patient(models, f"v{n}"), range(12)))
    assert all(changes)
    done = steps(models)
    assert {to for _, _, to in done} == {f"v{n}" for n in range(12)}
    # By time of the entry; each begins where another one ended.
    assert sorted(before for _, before, _ in done if before) == sorted(
        {to for _, _, to in done} - {promotions.version_in_force(models, "washer")}
    )


def _patient(models: str, version: str) -> Change | None:
    while True:
        try:
            return put(models, version)
        except InForceError:
            continue


def test_a_rollback_that_others_were_faster_than_is_refused(models: str) -> None:
    put(models, "one")
    put(models, "two")
    with pytest.raises(InForceError, match=r"somebody else .* which is now two; .* try again"):
        put(models, "zero", only_from="one")
    assert promotions.version_in_force(models, "washer") == "two"


@pytest.mark.parametrize("text", ["{", "[]", '{"at": "now"}'])
def test_a_file_that_is_no_entry_is_named_with_what_would_do(models: str, text: str) -> None:
    put(models, "one")
    stray = Path(models, "washer", "promotions", "note.json")
    stray.write_text(text)
    with pytest.raises(ArchiveError, match=r"note.json .*move it away: it is not an entry"):
        promotions.history(models, "washer")


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 3}'])
def test_a_damaged_current_json_is_named_with_what_would_do(models: str, text: str) -> None:
    put(models, "one")
    Path(models, "washer", "current.json").write_text(text)
    with pytest.raises(ArchiveError, match=r'current.json .*write {"version": "NAME"} into it'):
        put(models, "two")


def test_a_swap_needs_the_content_that_was_read(tmp_path: Path) -> None:
    uri = str(tmp_path / "new" / "file")
    assert conditional_writes.swap(uri, b"one", tag=None)
    assert not conditional_writes.swap(uri, b"two", tag=None)
    found = conditional_writes.read(uri)
    assert found
    assert conditional_writes.swap(uri, b"two", tag=found[1])
    assert not conditional_writes.swap(uri, b"three", tag=found[1])
    assert Path(uri).read_bytes() == b"two"


@pytest.mark.integration
def test_changes_are_logged_and_rolled_back_on_object_storage(bucket: str) -> None:
    models = uris.join(bucket, "models")
    put(models, "one")
    put(models, "two")
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda n: _patient(models, f"v{n}"), range(4)))
    assert len(steps(models)) == 6
    before = promotions.version_before(models, "washer")
    roll_back(models)
    assert promotions.version_in_force(models, "washer") == before
