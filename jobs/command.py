"""How every command runs: its help, its errors, its exit code, and what it prints.

Standard output carries JSON alone, the summary as its last line; all else goes to standard error.
Exit codes: 0 all done, 1 work began and is incomplete, 2 nothing was started, 143 and 130 stopped
by SIGTERM and Ctrl-C. An error of the library says itself whether work had begun: then it is an
`IncompleteError`.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from jobs import help as help_text
from jobs import stopping
from jobs.options import OptionsT, parse
from vqad.storage import traceback_file
from vqad.storage.errors import IncompleteError, VqadError, details_of
from vqad.storage.uris import without_secrets

_HELP = ("-h", "--help")


def say(line: str) -> None:
    """Write a line for a person to standard error, without any user and password of a URL."""
    sys.stderr.write(without_secrets(f"{line}\n"))
    sys.stderr.flush()


def choose(
    name: str,
    commands: Mapping[str, tuple[str, Callable[[list[str]], int]]],
    arguments: list[str],
    *,
    example: str,
    more: Sequence[str] = (),
) -> int:
    """Run the command below ``name`` that the first argument names; returns the exit code.

    ``more`` are the last lines of the help.
    """
    first, *rest = arguments or [""]
    if first in commands:
        return commands[first][1](rest)
    if first in (*_HELP, "help"):
        lines = {each: line for each, (line, _) in commands.items()}
        text = help_text.of_group(name, lines, example=example)
        sys.stdout.write("\n".join([text, *more]) + "\n")
        return 0
    found = f"there is no command {first!r}" if first else "a command is missing"
    say(f"{name}: {found}; there are: {', '.join(commands)}; see {name} --help")
    return 2


def run(
    command: str,
    options: type[OptionsT],
    arguments: Sequence[str],
    work: Callable[[OptionsT], tuple[dict[str, Any], int]],
) -> int:
    """Do a command's work: summary to standard output, errors as one line, the exit code."""
    if any(each in _HELP for each in arguments):
        sys.stdout.write(help_text.of_command(options) + "\n")
        return 0

    def say_stopped() -> None:
        say(f"vqad {command}: stopped; {options.after_stop}")

    try:
        with stopping.signals_stop(say_stopped):
            return _run(command, options, arguments, work)
    except KeyboardInterrupt as stopped:
        say_stopped()
        return stopped.code if isinstance(stopped, stopping.Stopped) else 130


def _run(
    command: str,
    options: type[OptionsT],
    arguments: Sequence[str],
    work: Callable[[OptionsT], tuple[dict[str, Any], int]],
) -> int:
    try:
        parsed = parse(options, arguments)
        with _only_json_on_standard_output() as write:
            summary, code = work(parsed)
            write(json.dumps(summary) + "\n")
    except IncompleteError as error:
        say(f"vqad {command}: {_one_line(error)}{_details(command, error)}")
        return 1
    except (VqadError, ValueError, OSError) as error:
        say(f"vqad {command}: {_one_line(error)}")
        return 2
    except Exception as error:  # a mistake of this program, or a library's error it does not know
        name = type(error).__name__
        say(
            f"vqad {command}: unexpected {name}: {_one_line(error)}{_details(command, error)}; "
            "please report it"
        )
        return 1
    return code


@contextmanager
def _only_json_on_standard_output() -> Iterator[Callable[[str], None]]:
    """Send what anything prints, Ray's workers included, to standard error.

    Yields a function that writes to standard output.
    """
    standard_output = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield lambda text: _write_all(standard_output, text.encode())
    finally:
        sys.stdout.flush()
        os.dup2(standard_output, 1)
        os.close(standard_output)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _details(command: str, error: BaseException) -> str:
    """Where the traceback was written; "" for an error that needs none."""
    text = details_of(error)
    if not text and isinstance(error, VqadError):
        return ""
    written = traceback_file.write(text or "".join(traceback.format_exception(error)), command)
    return f"; traceback in {written}" if written else ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
