"""`vqad COMMAND` and `python -m jobs COMMAND`."""

import importlib
import sys

# Name, module, one line. A module is imported when its command is called for.
COMMANDS = {
    "demo": ("jobs.demo", "a whole night on a laptop, from nothing: draw, train, inspect, show"),
    "train": ("jobs.train", "fit one detector per category, side by side"),
    "inspect": ("jobs.inspect_archive", "all images of an archive -> maps and verdicts"),
    "evaluate": ("jobs.evaluate", "verdicts and maps against ground truth"),
    "bench": ("jobs.bench", "how fast this machine is: bench resample, bench inspect, bench train"),
    "submit": ("jobs.submit", "train or inspect on a running cluster"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(f"{_usage()}\n")
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        there = ", ".join(COMMANDS)
        sys.stderr.write(f"vqad: no command {arguments[0]!r}; there are: {there}\n")
        return 2
    module = importlib.import_module(COMMANDS[arguments[0]][0])
    return int(module.main(arguments[1:]))


def _usage() -> str:
    lines = [f"  {name:10} {line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(["usage: vqad COMMAND [OPTIONS]", "", *lines, "", "vqad COMMAND --help"])


if __name__ == "__main__":
    sys.exit(main())
