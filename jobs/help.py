"""`--help`: what a command does, an example, and every option in plain words."""

import textwrap
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from jobs.options import Options, Shown, flag_of

WIDTH = 100  # characters of a line
_INDENT = 28  # where the texts begin
_TYPES = {"str": "TEXT", "int": "INTEGER", "float": "FLOAT", "Path": "PATH", "datetime": "TIME"}


def of_command(options: type[Options]) -> str:
    """The help of one command."""
    name = str(options.model_config["cli_prog_name"])
    fields = {each: field for each, field in options.model_fields.items() if each != "per_category"}
    needed = [_flag(each, field) for each, field in fields.items() if field.is_required()]
    lines = [
        *_filled(f"usage: {' '.join([name, *needed])} [OPTIONS]", hanging=7),
        "",
        *_filled((options.__doc__ or "").strip()),
        "",
        "Example:",
        f"  {name} {options.example}",
        "",
        "Options:",
    ]
    for each, field in sorted(fields.items(), key=_order):
        lines += _entry(_flag(each, field), _meaning(field))
    lines += _entry("--help", "show this text")
    return "\n".join([*lines, *_of_categories(options)])


def of_group(name: str, commands: Mapping[str, str], *, example: str) -> str:
    """The help of a command that has commands below it, each with one line."""
    lines = [f"usage: {name} COMMAND [OPTIONS]", "", "Commands:"]
    for command, line in commands.items():
        lines += _entry(command, line)
    lines += ["", "Example:", f"  {example}", "", f"{name} COMMAND --help shows the options."]
    return "\n".join(lines)


def _order(item: tuple[str, FieldInfo]) -> tuple[bool, bool]:
    """The required options first, those of every command last, else as they are declared."""
    name, field = item
    return not field.is_required(), name in Options.model_fields


def _flag(name: str, field: FieldInfo) -> str:
    """A flag with its kind of value; what is on by default is shown as it is turned off."""
    if field.annotation is bool:
        return flag_of(f"no-{name}" if field.default else name)
    return f"{flag_of(name)} {_kind(field.annotation, field.metadata)}"


def _kind(annotation: Any, metadata: Any = ()) -> str:
    """A kind of value as people say it: TEXT, INTEGER, URI, or the choices that there are."""
    for each in metadata:
        if isinstance(each, Shown):
            return each.text
    parts = [each for each in get_args(annotation) if each is not NoneType]
    if get_origin(annotation) is Annotated:
        return _kind(parts[0], parts[1:])
    if get_origin(annotation) is Literal:
        return "|".join(map(str, parts))
    if parts:
        return "|".join(map(_kind, parts))
    return _TYPES[annotation.__name__]


def _meaning(field: FieldInfo) -> str:
    """The description, and the default where the description does not say it."""
    described = field.description or ""
    if field.is_required():
        return f"{described} (required)"
    if "default: " in described:
        return described
    default = field.default
    if isinstance(default, bool):
        default = "off"
    elif isinstance(default, float):
        default = f"{default:g}"
    return f"{described}; default: {default}"


def _of_categories(options: type[Options]) -> Iterator[str]:
    table = options.model_fields.get("per_category")
    if table is None:
        return
    yield from ["", "Keys of [categories.NAME] in the configuration file:"]
    for name, field in get_args(table.annotation)[1].model_fields.items():
        yield from _entry(name, field.description or "")


def _entry(head: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, WIDTH - _INDENT, break_on_hyphens=False)
    indented = [f"{'':{_INDENT}}{line}" for line in lines]
    if len(head) > _INDENT - 4:
        return [f"  {head}", *indented]
    return [f"  {head:{_INDENT - 2}}{lines[0]}", *indented[1:]]


def _filled(text: str, *, hanging: int = 0) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * hanging, break_on_hyphens=False)
