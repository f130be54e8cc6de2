"""HTML and SVG as strings that cannot be forgotten to escape: text becomes markup only through `element` or `escape`."""

from __future__ import annotations

import html
import re
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fschemas.palette import SIDE_COLORS

_STYLE = Path(__file__).with_name("page.css")
_VOID = {"meta", "img", "input", "br"}
LONGEST_TEXT = 300  # characters of a foreign text that a page shows
# Controls, directions that turn text around, halves of surrogate pairs: shown by their number, never sent to a browser.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")

_BLANKS = re.compile("[\t\n]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """A part of the page; `name` is its anchor."""

    name: str
    title: str
    body: Markup


def _style() -> str:
    """The style sheet, with the colors that overlays of ftrain have as well."""
    colors = "; ".join(f"--mark-{side}: {color}" for side, color in SIDE_COLORS.items())
    return f":root {{ {colors} }}\n{_STYLE.read_text(encoding='utf-8')}"


def escape(text: object, longest: int = LONGEST_TEXT) -> Markup:
    """Any value as HTML text: composed (NFC), without unprintable characters, at most `longest` characters; markup as it is."""
    if isinstance(text, Markup):
        return text
    shown = _UNPRINTABLE.sub(
        lambda found: f"\\u{ord(found[0]):04x}", _BLANKS.sub(" ", unicodedata.normalize("NFC", str(text)))
    )
    if len(shown) > longest:
        shown = f"{shown[: longest - 1]}…"
    return Markup(html.escape(shown))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """`<tag a="b">children</tag>`. Underscores in names become hyphens (`class_` is `class`); None and False are left out."""
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is True:
            parts.append(f" {name}")
        elif value is not None and value is not False:
            parts.append(f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"')
    parts.append(">")
    if tag in _VOID:
        return Markup("".join(parts))
    parts += [escape(child) for child in children if child is not None]
    parts.append(f"</{tag}>")
    return Markup("".join(parts))


def _attribute(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else escape(value, sys.maxsize)


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Markup and texts one after the other."""
    return Markup(escape(between).join(escape(part) for part in parts))


def breakable(text: str) -> Markup:
    """A name that may go on in the next line behind an underscore."""
    return Markup(escape(text).replace("_", "_<wbr>"))


def percent(part: float, whole: float) -> str:
    """A share for people: `12 %`, `0.4 %`, `<0.1 %`."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "<0.1 %"
    if 99 < share < 100:
        return ">99 %"
    return f"{share:.0f} %" if share >= 10 or share == int(share) else f"{share:.1f} %"


def table(
    head: Iterable[object], rows: Iterable[Iterable[object]], *, numbers: Iterable[int] = (), codes: Iterable[int] = ()
) -> Markup:
    """A table; the columns `numbers` are aligned to the right, `codes` are set as code. It scrolls where it is too wide."""
    kinds = dict.fromkeys(numbers, "number") | dict.fromkeys(codes, "code")
    top = [element("th", cell, class_=kinds.get(index), scope="col") for index, cell in enumerate(head)]
    body = [
        element("tr", *(element("td", cell, class_=kinds.get(index)) for index, cell in enumerate(row))) for row in rows
    ]
    grid = element("table", element("thead", element("tr", *top)), element("tbody", *body))
    return element("div", grid, class_="scroll")


def details(summary: object, *body: object, open_: bool = False) -> Markup:
    """What one may unfold."""
    return element("details", element("summary", summary), *body, open=open_)


def document(title: str, header: Markup, sections: Iterable[Section], footer: Markup) -> bytes:
    """The whole page as UTF-8. Its policy forbids scripts and everything from outside."""
    parts = list(sections)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(_style())),
    )
    links = [element("a", part.title, href=f"#{part.name}") for part in parts]
    bodies = [element("section", element("h2", part.title), part.body, id=part.name) for part in parts]
    nav = element("nav", element("div", *links), aria_label="Sections")
    body = element("body", header, nav, element("main", *bodies), footer)
    return f'<!doctype html>\n<html lang="en">{head}\n{body}</html>\n'.encode()
