"""Find the file on disk for an annotated image name, even if the two are spelled differently.

Archives change names in transit: macOS decomposes accents and Hangul (NFD), Windows writes `\\` and ignores letter
case, web tools write `%20` and `&amp;`, a conversion turns `.jpg` into `.png`, and tables omit extensions. An exact
match always wins. Another file is used only if it is the single closest match and no other annotation refers to it.
"""

from __future__ import annotations

import contextlib
import html
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from fschemas.image_limits import IMAGE_EXTENSIONS
from fschemas.walk import list_folder

MAX_LISTED = 300_000  # maximum names in a folder for inexact matches
HOW = ("the same", "Unicode form", "letter case", "escapes", "extension")  # kinds of difference, smallest first

_ABSOLUTE = re.compile(r"^(/|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_DOTS = re.compile(r"(^|(?<=/))(\./)+")


def clean_path(text: str) -> str:
    """Normalize an image path: `/` instead of `\\`, no `./`; everything else is kept."""
    if "\\" in text:
        text = re.sub(r"\\+", "/", text)
    return _DOTS.sub("", text) if "./" in text else text


def image_path_problem(path: str) -> tuple[str, str] | None:
    """Return rule and message for an image path that must not be opened, else None.

    Paths must be relative, use `/`, and stay inside the root.
    """
    if not path or path.endswith("/"):
        return "bad_path", f"the image path {path!r} names no file"
    if _ABSOLUTE.match(path):
        return "absolute_path", f"the image path {path!r} is absolute, but must be relative to the archive"
    if "\\" in path or ".." in path.split("/"):
        return "path_escape", f"the image path {path!r} leaves the archive (`..` or a backslash)"
    if _CONTROL.search(path) or any(part in ("", ".") for part in path.split("/")):
        return "bad_path", f"the image path {path!r} has control characters or empty parts"
    if any(len(part.encode()) > 255 for part in path.split("/")):
        return "bad_path", "a part of the image path has more than 255 bytes"
    return None


@dataclass(frozen=True, slots=True)
class Near:
    """A file with a similar name: its path from the root, and the largest difference, an index into HOW."""

    path: str
    difference: int


@dataclass
class Matches:
    """Matches for names of missing files: the file to use instead, or the reason why no similar file is used."""

    found: dict[str, Near] = field(default_factory=dict[str, Near])
    refused: dict[str, str] = field(default_factory=dict[str, str])


class ImageFinder:
    """Find files below `root` (a real path) by name, with tolerance for spelling. Each folder is listed once.

    At most `limit` names of a folder are considered.
    """

    def __init__(self, root: str, limit: int | None = None) -> None:
        self.root, self.limit = root, limit
        self._listings: dict[str, _Names] = {}

    def has(self, path: str) -> bool:
        """Return whether the file, or one with a similar name, exists."""
        return os.path.lexists(os.path.join(self.root, path)) or bool(self.near(path))

    def near(self, path: str) -> list[Near]:
        """Return all closest matches, sorted by path; only the exact match if it exists."""
        found = list(self._search("", path.split("/"), 0))
        if not found and ("%" in path or "&" in path):  # an escaped `/`
            decoded = clean_path(_unescaped(path))
            if image_path_problem(decoded) is None:
                found = [Near(near.path, max(near.difference, 3)) for near in self._search("", decoded.split("/"), 0)]
        least = min((near.difference for near in found), default=0)
        return sorted((near for near in found if near.difference == least), key=lambda near: near.path)

    def only(self, path: str) -> str | None:
        """Return the exact or the only closest match; None if there is none or the path must not be opened."""
        near = self.near(path) if image_path_problem(path) is None else []
        return near[0].path if len(near) == 1 else None

    def match(self, missing: Iterable[str], named: Collection[str]) -> Matches:
        """Match the `missing` names to files.

        `named` are the names of existing files, which are not available as matches.
        """
        result = Matches()
        near = {name: found for name in missing if (found := self.near(name))}
        claims: dict[str, list[str]] = {}
        for name, found in near.items():
            claims.setdefault(found[0].path, []).append(name)
        for name, found in near.items():
            path = found[0].path
            others = [other for other in claims[path] if other != name]
            if len(found) > 1:
                listed = ", ".join(entry.path for entry in found[:4])
                result.refused[name] = f"{len(found)} files have nearly this name: {listed}; rename the right one"
            elif path in named:
                result.refused[name] = f"{path} has nearly this name, but another row names that file exactly"
            elif others:
                as_near = f"but is as near to {others[0]}; rename the right one"
                result.refused[name] = f"{path} has nearly this name, {as_near}"
            else:
                result.found[name] = found[0]
        return result

    def _search(self, folder: str, parts: list[str], difference: int) -> Iterator[Near]:
        names = self._names(folder)
        first, *rest = parts
        if not rest:
            for name, how in names.files_like(first):
                yield Near(folder + name, max(difference, how))
            return
        for name, how in names.folders_like(first):
            yield from self._search(f"{folder}{name}/", rest, max(difference, how))

    def _names(self, folder: str) -> _Names:
        if folder not in self._listings:
            self._listings[folder] = _Names([], [])
            with contextlib.suppress(OSError):
                found = list_folder(os.path.join(self.root, folder), self.limit)
                self._listings[folder] = _Names([*found.folders, *found.linked], found.files)
        return self._listings[folder]


class _Names:
    """The names in one folder, by the keys they are compared by."""

    def __init__(self, folders: list[str], files: list[str]) -> None:
        self.folders: dict[str, list[str]] = {}
        self.files: dict[str, list[str]] = {}
        self.stems: dict[str, list[str]] = {}
        for name in folders:
            self.folders.setdefault(_compared(name), []).append(name)
        for name in files:
            self.files.setdefault(_compared(name), []).append(name)
            if (stem := _stem(name)) != name:
                self.stems.setdefault(_compared(stem), []).append(name)

    def folders_like(self, name: str) -> Iterator[tuple[str, int]]:
        """Yield matching folders, with the kind of difference."""
        yield from ((found, _difference(name, found)) for found in self.folders.get(_compared(name), ()))

    def files_like(self, name: str) -> Iterator[tuple[str, int]]:
        """Yield matching files, with the kind of difference; if there are none, images that match without extension."""
        found = self.files.get(_compared(name))
        if found:
            yield from ((other, _difference(name, other)) for other in found)
            return
        others = dict.fromkeys([*self.stems.get(_compared(_stem(name)), ()), *self.stems.get(_compared(name), ())])
        yield from ((other, 4) for other in others)


def _stem(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in IMAGE_EXTENSIONS else name


def _unescaped(name: str) -> str:
    name = html.unescape(name) if "&" in name else name
    return unquote(name) if "%" in name else name


def _compared(name: str) -> str:
    if name.isascii() and "%" not in name and "&" not in name:
        return name.lower().strip()
    name = _unescaped(name.casefold())  # before unescaping, so that `&EACUTE;` is an escape too
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()


def difference_of(path: str, other: str) -> int:
    """Return the difference between two paths of one image, an index into HOW."""
    parts, others = path.split("/"), other.split("/")
    pairs = zip(parts, others, strict=False)
    least = max((_difference(*pair) for pair in pairs if _compared(pair[0]) == _compared(pair[1])), default=0)
    return least if _compared(parts[-1]) == _compared(others[-1]) else 4


def _difference(name: str, other: str) -> int:
    """Return the difference between two matching names, an index into HOW."""
    if name == other:
        return 0
    name, other = unicodedata.normalize("NFC", name), unicodedata.normalize("NFC", other)
    if name == other:
        return 1
    return 2 if name.casefold().strip() == other.casefold().strip() else 3
