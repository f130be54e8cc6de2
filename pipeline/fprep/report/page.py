"""The HTML page: jinja2 templates that escape every value, and sections that fill them.

Texts of a table are foreign: `printable` cleans each of them before a template prints it.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from markupsafe import escape as escape_markup

from fschemas.palette import SIDE_COLORS
from fschemas.wording import count

LONGEST_TEXT = 300  # characters of a foreign text that a page shows
# Controls, characters that change the direction of text, halves of surrogate pairs: shown by their number, never sent to a browser.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Section:
    """A part of the page; `name` is its anchor."""

    name: str
    title: str
    body: Markup


def printable(value: object, longest: int = LONGEST_TEXT) -> object:
    """A value as a template prints it: text composed (NFC), without unprintable characters, at most `longest` characters.

    Markup stays as it is, None is empty, and a float has no more digits than it needs.
    """
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, str) or isinstance(value, Markup):
        return "" if value is None else value
    composed = unicodedata.normalize("NFC", value).replace("\t", " ").replace("\n", " ")
    text = _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", composed)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def escape(value: object, longest: int = LONGEST_TEXT) -> Markup:
    """Any value as HTML text."""
    return escape_markup(printable(value, longest))


def breakable(name: str) -> Markup:
    """A name that may continue on the next line after an underscore."""
    return escape(name).replace("_", Markup("_<wbr>"))


def percent(part: float, whole: float) -> str:
    """A share for people: `12 %`, `0.4 %`, `<0.1 %`."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "<0.1 %"
    if 99 < share < 100:
        return ">99 %"
    return f"{share:.0f} %" if share >= 10 or share == int(share) else f"{share:.1f} %"


TEMPLATES = Environment(
    loader=PackageLoader("fprep.report"), autoescape=True, finalize=printable, trim_blocks=True, lstrip_blocks=True
)
_GLOBALS: dict[str, Any] = {"count": count, "percent": percent}
TEMPLATES.globals.update(_GLOBALS)
TEMPLATES.filters |= {"breakable": breakable, "long": escape, "whole": partial(escape, longest=sys.maxsize)}


def render(template: str, **values: Any) -> Markup:
    """The markup of a template of this package."""
    return Markup(TEMPLATES.get_template(template).render(values))  # noqa: S704 - templates escape what they print


def section(name: str, title: str, **values: Any) -> Section:
    """A section from the template of its name."""
    return Section(name, title, render(f"{name}.html", **values))


def document(title: str, sections: Iterable[Section], **values: Any) -> bytes:
    """The whole page as UTF-8. Its policy forbids scripts and everything from outside."""
    return render("page.html", title=title, sections=list(sections), colors=SIDE_COLORS, **values).encode()
