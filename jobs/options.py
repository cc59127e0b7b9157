"""Where the options of a command come from: flags, then environment, then a TOML file.

Each command has one model, a subclass of `Options`, whose fields are its flags. The environment
variable of ``--batch-size`` is ``VQAD_BATCH_SIZE``. One TOML file, given with ``--config``, may
serve all commands: a command takes its own keys and passes over those of other commands; a key of
no command is refused by name.
"""

import importlib
import os
import pkgutil
import tomllib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

import jobs
from vqad.storage.errors import VqadError
from vqad.storage.uris import absolute


class UsageError(VqadError, ValueError):
    """Nothing was started; the message says what would do."""


@dataclass(frozen=True)
class Shown:
    """How `--help` names a kind of value, where its type does not say it."""

    text: str


def _split(value: Any) -> Any:
    return [each for each in value.split(",") if each] if isinstance(value, str) else value


def _absolute(value: str) -> str:
    return absolute(value) if value else value


# A list written a,b,c.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), Shown("NAME,NAME,...")]
# A local path or s3://bucket/prefix. Made absolute here: a worker has another current folder.
Uri = Annotated[str, AfterValidator(_absolute), Shown("URI")]
LocalPath = Annotated[str, Shown("PATH")]
# Second detectors.
Shadows = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(_split), Shown("NAME=VERSION,...|latest")
]
# A file for single categories, which is given by its place.
Places = Annotated[
    dict[str, str],
    AfterValidator(lambda given: {name: _absolute(each) for name, each in given.items()}),
    Shown("NAME=URI"),
]
# The kind of product of single categories; see `vqad.model.kinds`.
Kinds = Annotated[dict[str, str], Shown("NAME=KIND")]


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
    example: ClassVar[str] = ""  # a line for `--help`, without the command's name
    # What is said where a signal stopped the command.
    after_stop: ClassVar[str] = "the same command goes on where it ended"

    config: Path | None = Field(
        default=None, description="TOML file with options of any command; default: none"
    )

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
            raise UsageError(f"--config: there is no file {path}; check the path")
        return init_settings, env_settings, _Toml(settings_cls, path)


# The file of the command that is being parsed. Options that are made meanwhile have no file.
_config: ContextVar[Path | None] = ContextVar("config", default=None)

OptionsT = TypeVar("OptionsT", bound=Options)


def parse(options: type[OptionsT], arguments: Sequence[str]) -> OptionsT:
    """Options from flags, environment and file. Raises UsageError with one clear line."""
    before = _config.set(_config_path(arguments))
    try:
        return CliApp.run(options, cli_args=list(arguments))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--config: {_config.get()} is not TOML: {error}") from error
    except SettingsError as error:
        raise UsageError(str(error).removeprefix("error parsing CLI: ")) from error
    except ValidationError as error:
        raise UsageError("; ".join(map(_complaint, error.errors()))) from error
    finally:
        _config.reset(before)


def _config_path(arguments: Sequence[str]) -> Path | None:
    for at, argument in enumerate(arguments):
        if argument == "--config" and at + 1 < len(arguments):
            return Path(arguments[at + 1])
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
    given = os.environ.get("VQAD_CONFIG")
    return Path(given) if given else None


def flag_of(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def _complaint(found: Any) -> str:
    flag = flag_of(".".join(str(part) for part in found["loc"]))
    if found["type"] == "missing":
        return f"{flag} is required"
    if found["type"] == "extra_forbidden":
        return f"{flag} is not an option of this command"
    if found["type"] == "value_error":  # of our own: it says what was found, if it may be said
        return f"{flag}: {found['msg'].removeprefix('Value error, ')}"
    return f"{flag}: {found['msg']}, got {found['input']!r}"


class _Toml(TomlConfigSettingsSource):
    """A TOML file for all commands; ``[categories.NAME]`` has settings of single categories."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        if isinstance(found.get("categories"), dict):
            found["per_category"] = found.pop("categories")
            for name, settings in found["per_category"].items():
                _refuse_unknown(f" in [categories.{name}]", settings, _category_keys())
        own = self.settings_cls.model_fields.keys()
        if found.keys() - own:
            _refuse_unknown("", found, {name for each in _all() for name in each.model_fields})
        return {name: value for name, value in found.items() if name in own}


def _refuse_unknown(place: str, found: Any, known: set[str]) -> None:
    if not isinstance(found, dict):
        raise UsageError(f"--config: expected a table{place} of {_config.get()}, got {found!r}")
    if unknown := sorted(found.keys() - known):
        raise UsageError(
            f"--config: {_config.get()} sets {', '.join(unknown)}{place}, which no command has; "
            f"there are: {', '.join(sorted(known))}"
        )


def _all() -> Iterator[type[Options]]:
    """The options of all commands, whichever of their modules was imported so far."""
    for module in pkgutil.iter_modules(jobs.__path__, "jobs."):
        importlib.import_module(module.name)
    waiting = Options.__subclasses__()
    while waiting:
        yield (each := waiting.pop())
        waiting += each.__subclasses__()


def _category_keys() -> set[str]:
    """Keys of ``[categories.NAME]`` that any command understands."""
    tables = (each.model_fields.get("per_category") for each in _all())
    models: list[type[BaseModel]] = [each.annotation.__args__[1] for each in tables if each]  # type: ignore[union-attr]
    return {name for model in models for name in model.model_fields}
