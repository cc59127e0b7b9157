"""SIGTERM and Ctrl-C: a command ends in order, within ten seconds, with exit code 143 or 130."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# From the signal to the end, whatever hangs meanwhile: an orderly end takes two to four seconds.
WITHIN_S: Final = 8.0


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

    def stop(number: int, _: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # a second one would interrupt the orderly end
        raise Stopped(number)

    before: dict[int, Any] = {each: signal.signal(each, stop) for each in SIGNALS}
    try:
        with _ended_in_time(say_last):
            yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _ended_in_time(say_last: Callable[[], None]) -> Iterator[None]:
    """End the process where the block goes on for too long after a signal.

    A thread learns of the signal by itself: the handler runs in the main thread, and only when that
    comes back from what it waits for in another language.
    """
    ours, theirs = socket.socketpair()
    ended = threading.Event()

    def watch() -> None:
        while number := ours.recv(1):
            if number[0] in SIGNALS and not ended.wait(WITHIN_S):
                say_last()
                os._exit(128 + number[0])

    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, daemon=True, name="stopping")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        theirs.close()
        thread.join()
        ours.close()
