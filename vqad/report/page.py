"""The page itself: one HTML file with its style and its script, and pictures beside it.

It works from a folder as from a web server, so it fetches nothing: style, script and the cards'
data are in the file. A policy in the page forbids it to load anything from elsewhere, and to run
any script but its own, which it names by a hash. All text from storage is escaped by Jinja2 or put
into the page as text by the script.
"""

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vqad.report import plots, totals

SCRIPTS: Final = ("marks.js", "parts.js", "page.js")


def render(**values: Any) -> bytes:
    """The page as HTML, made of the values that ``index.html.j2`` names."""
    template = _environment().get_template("index.html.j2")
    style, script = _text("page.css"), "".join(map(_text, SCRIPTS))
    page = template.render(
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704
        policy=_policy(style, script),
        plot_height=plots.HEIGHT,
        verdicts=totals.VERDICTS,
        **values,
    )
    return page.encode("utf-8", "replace")  # a name that is not UTF-8 has characters without bytes


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("vqad.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["percent"] = _percent
    found.filters["number"] = lambda value: f"{value:,}"
    return found


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _text(name: str) -> str:
    return resources.files("vqad.report").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """The page's Content-Security-Policy.

    ``file:`` is for browsers that don't count the files of a folder as the page's own.
    """
    return (
        "default-src 'none'; img-src 'self' file: data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
