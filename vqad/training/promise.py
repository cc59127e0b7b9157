"""What a fitted detector's threshold promises, for the summary of a training."""

from typing import Any, Final

from vqad.detection.false_alarms import cannot_promise, promise_of, smallest_rate
from vqad.detection.settings import Settings

# A rate that people ask for, for the sentence.
_EXAMPLE_RATE: Final = 0.005


def outcome_of(settings: Settings) -> dict[str, Any]:
    """The keys that say how many false alarms to expect; none without scores."""
    scores = settings.normal_scores
    if not scores:
        return {}
    promise = promise_of(scores, settings.threshold)
    return {
        "normal_scores": promise.num_scores,
        "smallest_false_alarm_rate": round(smallest_rate(promise.num_scores), 5),
        "expected_false_alarm_rate": round(promise.rate, 5),
        "expected_false_alarms_in_10000": promise.in_ten_thousand,
    }


def sentence(outcome: dict[str, Any]) -> str:
    """The same for people; "" without scores."""
    if "normal_scores" not in outcome:
        return ""
    num = outcome["normal_scores"]
    expected = (
        f"about {outcome['expected_false_alarms_in_10000']} false alarms among 10,000 normal images"
    )
    if smallest_rate(num) <= _EXAMPLE_RATE:
        return f"{expected}, by {num} scores of normal images"
    return f"{expected}; {cannot_promise(_EXAMPLE_RATE, num)}"
