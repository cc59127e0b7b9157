"""Progress of a training for people: a live table on a terminal, lines of text elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from tensorboardX import SummaryWriter

from vqad.training.events import Event, Show


class LiveTable:
    """The latest event of every category, as a table."""

    def __init__(self, categories: Sequence[str]) -> None:
        self.stages = dict.fromkeys(categories, "waiting")
        self.last: dict[str, Event] = {}

    def add(self, event: Event) -> None:
        """Add an event."""
        if event.stage:
            self.stages[event.category] = event.stage
        if event.record:
            self.last[event.category] = event

    def table(self) -> Table:
        """The table of the events so far."""
        table = Table(box=None, pad_edge=False)
        table.add_column("category")
        table.add_column("stage")
        for name in ("step", "images/s", "loss", "codes in use", "held out", "left, about"):
            table.add_column(name, justify="right")
        for category, stage in self.stages.items():
            table.add_row(category, stage, *_numbers(self.last.get(category), stage))
        return table


def _numbers(event: Event | None, stage: str) -> list[str]:
    if event is None or event.record is None:
        return [""] * 6
    record = event.record
    held_out = (
        f"{record.held_out:.4f}" if record.stage == "vqvae" else f"{record.held_out:.3f} nats"
    )
    running = record.stage == stage and event.seconds_left is not None
    return [
        f"{record.step} of {record.num_steps}",
        f"{record.images_per_s:.1f}",
        f"{record.loss:.4f}",
        str(record.codes_used or ""),
        held_out,
        _duration(event.seconds_left or 0.0) if running else "",
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


@contextmanager
def shown(categories: Sequence[str], stream: Any, tensorboard: str = "") -> Iterator[Show]:
    """A function that shows events on a text stream, and writes TensorBoard logs if asked to.

    A terminal shows a table, any other stream gets lines.
    """
    with ExitStack() as stack:
        shows = [stack.enter_context(_shown_on(categories, stream))]
        if tensorboard:
            shows.append(stack.enter_context(_logged_for_tensorboard(tensorboard)))

        def show(event: Event) -> None:
            for each in shows:
                each(event)

        yield show


@contextmanager
def _shown_on(categories: Sequence[str], stream: Any) -> Iterator[Show]:
    if not stream.isatty():

        def write(event: Event) -> None:
            stream.write(f"{event.line}\n")
            stream.flush()

        yield write
        return
    board, console = LiveTable(categories), Console(file=stream)
    with Live(get_renderable=board.table, console=console, refresh_per_second=2):

        def show(event: Event) -> None:
            board.add(event)
            if not event.record:  # a line above the table
                console.print(event.line, markup=False, highlight=False)

        yield show


@contextmanager
def _logged_for_tensorboard(folder: str) -> Iterator[Show]:
    writers: dict[str, SummaryWriter] = {}

    def write(event: Event) -> None:
        record = event.record
        if record is None:
            return
        if event.category not in writers:
            writers[event.category] = SummaryWriter(str(Path(folder) / event.category))
        for name in ("loss", "held_out", "codes_used", "perplexity", "images_per_s"):
            value = getattr(record, name)
            writers[event.category].add_scalar(f"{record.stage}/{name}", value, record.step)

    try:
        yield write
    finally:
        for writer in writers.values():
            writer.close()
