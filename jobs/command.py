"""How every command runs: its help, its errors, its exit code, and what it prints.

Standard output carries JSON alone, the summary as its last line; all else goes to standard error.
Exit codes: 0 all done, 1 work began and is incomplete, 2 nothing was started. An error of the
library says itself which of the two it is: it is an `IncompleteError` once work has begun.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from jobs import help as help_text
from jobs.options import OptionsT, UsageError, parse
from vqad.storage.errors import IncompleteError, VqadError
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
    try:
        parsed = parse(options, arguments)
    except UsageError as error:
        say(f"vqad {command}: {_one_line(error)}")
        return 2
    return _worked(command, lambda: work(parsed))


def _worked(command: str, work: Callable[[], tuple[dict[str, Any], int]]) -> int:
    # What anything prints, Ray's workers included, belongs on standard error.
    standard_output = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            summary, code = work()
    except IncompleteError as error:
        say(f"vqad {command}: {_one_line(error)}")
        return 1
    except (VqadError, ValueError, OSError) as error:
        say(f"vqad {command}: {_one_line(error)}")
        return 2
    else:
        os.write(standard_output, (json.dumps(summary) + "\n").encode())
        return code
    finally:
        sys.stdout.flush()
        os.dup2(standard_output, 1)
        os.close(standard_output)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
