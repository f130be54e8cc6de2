"""The HTML page: jinja2 templates that escape every value, and the sections that fill them.

Strings of a table are untrusted: `printable` cleans each one before a template prints it.
"""

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

LONGEST_TEXT = 300  # maximum characters of an untrusted string
# Control characters, bidirectional formatting and lone surrogates: shown as code points, never sent to a browser.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Section:
    """A part of the page. `name` is its anchor."""

    name: str
    title: str
    body: Markup


def printable(value: object, longest: int = LONGEST_TEXT) -> object:
    """Prepare a value for a template: text in NFC, without unprintable characters, at most `longest` characters.

    Markup is unchanged, None becomes empty, and a float is printed without superfluous digits.
    """
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, str) or isinstance(value, Markup):
        return "" if value is None else value
    composed = unicodedata.normalize("NFC", value).replace("\t", " ").replace("\n", " ")
    text = _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", composed)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def escape(value: object, longest: int = LONGEST_TEXT) -> Markup:
    """Return any value as HTML text."""
    return escape_markup(printable(value, longest))


def breakable(name: str) -> Markup:
    """Return a name that may wrap after an underscore."""
    return escape(name).replace("_", Markup("_<wbr>"))


def percent(part: float, whole: float) -> str:
    """Format a share as `12%`, `0.4%` or `<0.1%`."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "<0.1%"
    if 99 < share < 100:
        return ">99%"
    return f"{share:.0f}%" if share >= 10 or share == int(share) else f"{share:.1f}%"


TEMPLATES = Environment(
    loader=PackageLoader("fprep.report"), autoescape=True, finalize=printable, trim_blocks=True, lstrip_blocks=True
)
_GLOBALS: dict[str, Any] = {"count": count, "percent": percent}
TEMPLATES.globals.update(_GLOBALS)
TEMPLATES.filters |= {"breakable": breakable, "long": escape, "whole": partial(escape, longest=sys.maxsize)}


def render(template: str, **values: Any) -> Markup:
    """Render a template of this package."""
    return Markup(TEMPLATES.get_template(template).render(values))  # noqa: S704 - templates escape their values


def section(name: str, title: str, **values: Any) -> Section:
    """Render the template of this name as a section."""
    return Section(name, title, render(f"{name}.html", **values))


def document(title: str, sections: Iterable[Section], **values: Any) -> bytes:
    """Return the whole page as UTF-8. Its content security policy forbids scripts and external resources."""
    return render("page.html", title=title, sections=list(sections), colors=SIDE_COLORS, **values).encode()
