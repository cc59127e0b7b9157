"""Joining or starting a Ray: what is said where there is none. Ray itself is not started here."""

import pytest
import ray

from vqad.on_ray import session

SLOW = "The current node timed out during startup. This could happen because of anything."


class Starts:
    """A Ray that starts after so many failures."""

    def __init__(self, num_failures: int, error: Exception) -> None:
        self.num_failures, self.error, self.asked = num_failures, error, list[str]()

    def __call__(self, *, address: str, **_: object) -> None:
        self.asked.append(address)
        if len(self.asked) <= self.num_failures:
            raise self.error


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(session, "_quieten", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return monkeypatch


def test_a_private_ray_that_was_too_slow_to_start_is_started_again(
    no_ray: pytest.MonkeyPatch,
) -> None:
    starts = Starts(2, Exception(SLOW))
    no_ray.setattr(ray, "init", starts)
    with session.connected():
        assert starts.asked == ["local"] * 3


def test_a_ray_that_never_starts_is_said_in_one_line(no_ray: pytest.MonkeyPatch) -> None:
    starts = Starts(9, Exception(SLOW))
    no_ray.setattr(ray, "init", starts)
    with pytest.raises(session.NoRayError) as caught, session.connected():
        pass
    assert str(caught.value) == (
        f"Ray could not be started: {SLOW}; try again when the machine is less busy"
    )
    assert len(starts.asked) == session.ATTEMPTS


def test_a_cluster_that_does_not_answer_is_named_with_the_variable(
    no_ray: pytest.MonkeyPatch,
) -> None:
    starts = Starts(9, ConnectionError("nobody there"))
    no_ray.setattr(ray, "init", starts)
    no_ray.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(
            session.NoRayError,
            match=r"^no Ray answers at 127.0.0.1:1: nobody there; check RAY_ADDRESS$",
        ),
        session.connected(),
    ):
        pass
    assert starts.asked == ["127.0.0.1:1"]
