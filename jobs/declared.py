"""A command's flags, taken from the dataclass in the library where its options are declared.

The dataclass says of each field what it is for, in ``metadata``: ``help`` makes it a flag,
``per_category`` makes it a key of ``[categories.NAME]``, and ``metavar`` says what kind of text it
is. So a new option is one field of the dataclass, and one use of it in the library.
"""

import dataclasses
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from jobs.options import Shadows, Shown, Uri

T = TypeVar("T")
_TYPES: dict[str, tuple[Any, Any]] = {
    "URI": (str, Uri),
    "URL": (str, Annotated[str, Shown("URL")]),
    "SHADOW": (tuple[str, ...], Shadows),
}


def flags(*classes: Any) -> Any:
    """A base class for the options of a command, with every field that has a help text.

    Its type is `Any`: a type checker can't know fields that are found when it is made.
    """
    found: dict[str, Any] = {}
    for each in classes:
        found |= _declared(each, "help")
    return create_model("Flags", **found)


def per_category(*classes: Any) -> Any:
    """The model of one ``[categories.NAME]`` table, in which every key may be left out."""
    found: dict[str, Any] = {
        name: (type_ | None, Field(default=None, description=field.description))
        for each in classes
        for name, (type_, field) in _declared(each, "per_category").items()
    }
    return create_model("PerCategory", __config__=ConfigDict(extra="forbid"), **found)


def made(of: type[T], options: BaseModel, /, **others: Any) -> T:
    """The dataclass with its flags as they were given; ``others`` are its fields without one."""
    given = {name: getattr(options, name) for name in _declared(of, "help")}
    return of(**{**given, **others})


def _declared(of: Any, text: str) -> dict[str, tuple[Any, Any]]:
    types = get_type_hints(of)
    return {
        each.name: (_type(types[each.name], each.metadata), _field(each, text))
        for each in dataclasses.fields(of)
        if text in each.metadata
    }


def _type(declared: Any, metadata: Any) -> Any:
    """The declared type, or its counterpart that checks what kind of text it is."""
    if "metavar" not in metadata:
        return declared
    plain, checked = _TYPES[metadata["metavar"]]
    return checked if declared == plain else checked | None


def _field(declared: "dataclasses.Field[Any]", text: str) -> Any:
    if declared.default is dataclasses.MISSING:
        return Field(description=declared.metadata[text])
    return Field(default=declared.default, description=declared.metadata[text])
