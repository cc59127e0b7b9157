"""What the commands have in common: where options come from, what is printed, how it ends.

Options come from flags, then environment (``VQAD_...``), then the TOML file of ``--config``.
Standard output carries JSON alone, the summary as its last line; all else goes to standard error.
Exit codes: 0 all done, 1 begun and incomplete, 2 not started.
"""

import json
import os
import sys
import tomllib
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from vqad.storage.errors import IncompleteError, VqadError
from vqad.storage.uris import absolute


class UsageError(VqadError, ValueError):
    """Nothing was started; the message says what would do."""


def _split(value: Any) -> Any:
    return [each for each in value.split(",") if each] if isinstance(value, str) else value


# A list written a,b,c.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


def _absolute(value: str) -> str:
    return absolute(value) if value else value


# A local path or s3://bucket/prefix. Made absolute here: a worker's current folder is another.
Uri = Annotated[str, AfterValidator(_absolute)]


class PerCategory(BaseModel):
    """`[categories.NAME]` of a configuration file."""

    model_config = ConfigDict(extra="forbid")

    kind: str | None = None
    minimum_area_px: int | None = None
    heldout_group: str | None = None


class Options(BaseSettings):
    """Options of one command; every field is a flag."""

    model_config = SettingsConfigDict(
        env_prefix="VQAD_",
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_exit_on_error=False,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    config: Path | None = Field(default=None, description="TOML file with any of these options")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and environment first, then the file that ``--config`` names."""
        path = _config.get()
        if path is None:
            return init_settings, env_settings
        if not path.is_file():
            raise UsageError(f"--config: no file {path}")
        return init_settings, env_settings, _Toml(settings_cls, path)


# The file of the command that is being parsed; other options made meanwhile have none.
_config: ContextVar[Path | None] = ContextVar("config", default=None)


class _Toml(TomlConfigSettingsSource):
    """A TOML file whose ``[categories.NAME]`` tables are settings of single categories."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        if isinstance(found.get("categories"), dict):
            found["per_category"] = found.pop("categories")
        return found


def _config_path(arguments: Sequence[str]) -> Path | None:
    for at, argument in enumerate(arguments):
        if argument == "--config" and at + 1 < len(arguments):
            return Path(arguments[at + 1])
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
    given = os.environ.get("VQAD_CONFIG")
    return Path(given) if given else None


OptionsT = TypeVar("OptionsT", bound=Options)


def parse(options: type[OptionsT], arguments: Sequence[str]) -> OptionsT:
    """Options from flags, environment and file. Raises UsageError with one clear line."""
    asked = _config.set(_config_path(arguments))
    try:
        return CliApp.run(options, cli_args=list(arguments))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--config: {_config.get()} is not TOML: {error}") from error
    except SettingsError as error:
        raise UsageError(str(error).removeprefix("error parsing CLI: ")) from error
    except ValidationError as error:
        raise UsageError("; ".join(map(_complaint, error.errors()))) from error
    finally:
        _config.reset(asked)


def _complaint(found: Any) -> str:
    flag = "--" + ".".join(str(part) for part in found["loc"]).replace("_", "-")
    if found["type"] == "missing":
        return f"{flag} is required"
    if found["type"] == "extra_forbidden":
        return f"{flag} is no option of this command"
    return f"{flag}: {found['msg'].removeprefix('Value error, ')}, got {found['input']!r}"


def say(line: str) -> None:
    """A line for a person, on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def run(
    command: str,
    options: type[OptionsT],
    arguments: Sequence[str],
    work: Callable[[OptionsT], tuple[dict[str, Any], int]],
) -> int:
    """Do a command's work: summary to standard output, errors as one line, the exit code."""
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
