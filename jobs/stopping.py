"""SIGTERM and Ctrl-C: a command ends in order, within ten seconds, with exit code 143 or 130."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# From the signal to the end, whatever hangs meanwhile: an orderly end takes two to four seconds.
WITHIN_S: Final = 9.0


class Stopped(KeyboardInterrupt):
    """A signal asked the command to stop.

    Like the KeyboardInterrupt that it is, it passes everything that handles errors, and is what
    Ray and other libraries expect of Ctrl-C.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number  # as a shell has it


@contextmanager
def signals_stop(say_last: Callable[[], None]) -> Iterator[None]:
    """Raise Stopped in this thread at the first signal; ignore later ones.

    Where the command has not ended in time, ``say_last`` is called and the process ends at once.
    Then the system ends a private Ray with it, and the lease runs out by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    timers: list[threading.Timer] = []

    def stop(number: int, _: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # a second one would interrupt the orderly end
        timers.append(_hard_end(128 + number, say_last))
        raise Stopped(number)

    before: dict[int, Any] = {each: signal.signal(each, stop) for each in SIGNALS}
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for each, handler in before.items():
            signal.signal(each, handler)


def _hard_end(code: int, say_last: Callable[[], None]) -> threading.Timer:
    def end() -> None:
        say_last()
        os._exit(code)

    timer = threading.Timer(WITHIN_S, end)
    timer.daemon = True
    timer.start()
    return timer
