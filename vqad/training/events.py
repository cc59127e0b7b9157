"""Events that a training reports while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from vqad.training.loop import Record


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in the training of a category."""

    category: str
    line: str  # for a person
    stage: str = ""  # its stage from now on; "" if that does not change
    record: Record | None = None
    seconds_left: float | None = None  # estimate, until both networks are fitted


Show = Callable[[Event], None]


def of_record(category: str, record: Record, seconds_left: float | None = None) -> Event:
    """The event of a new record."""
    return Event(
        category=category,
        line=f"{category}: {describe(record)}",
        stage=record.stage,
        record=record,
        seconds_left=seconds_left,
    )


def describe(record: Record) -> str:
    """One record as a line of text."""
    line = f"{record.stage} step {record.step} of {record.num_steps}, loss {record.loss:.4f}, "
    if record.stage == "vqvae":
        line += f"held-out error {record.held_out:.4f}, {record.codes_used} codes in use "
        line += f"(perplexity {record.perplexity:.0f})"
    elif record.stage == "prior":
        line += f"held-out {record.held_out:.3f} nats per code"
    else:
        line += f"held-out loss {record.held_out:.4f}"
    return f"{line}, {record.images_per_s:.1f} images/s"
