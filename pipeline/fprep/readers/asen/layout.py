"""The text layout of ASEN (Ma et al., AAAI 2020): file locations, attribute numbering and label lines.

`filenames_<split>.txt` lists one image per line; label files refer to an image by its line number, counting from 0.
There are two forms of meta.json: one data set with the names of its values, or sections of several data sets with
counts only.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fprep.raw.file import is_file, read_unchanged
from fprep.raw.folder import RawFolder
from fschemas.failures import UsageError
from fschemas.vocabularies import Vocabulary, vocabulary

SPLITS = ("train", "valid", "test")
ROLES = ("label", "query", "candidate")
_META = ("meta.json", "meta_v1.json")
_LABEL = re.compile(rb"[0-9]{1,9}(?:[ \t]+[0-9]{1,9}[ \t]+[0-9]{1,9})+[ \t]*")
_FASHIONAI = vocabulary("fashionai-attribute-54")

# Contents of meta.json for the data sets that ASEN uses, for trees without this file.
_KNOWN: dict[str, tuple[tuple[str, int], ...]] = {
    "kfashion": (("style", 3),),
    "fashionai": tuple((name, len(members)) for name, members in _FASHIONAI.groups.items()),
    "darn": (
        ("clothes category", 20), ("clothes button", 13), ("clothes color", 55), ("clothes length", 7),
        ("clothes pattern", 28), ("clothes shape", 11), ("collar shape", 26), ("sleeve length", 8), ("sleeve shape", 17),
    ),
    "deepfashion": (
        ("texture-related", 156), ("fabric-related", 218), ("shape-related", 180), ("part-related", 216),
        ("style-related", 230),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """One data set in this layout: its folder, its name, and its attributes with their value counts, in id order."""

    folder: Path
    name: str
    attributes: tuple[tuple[str, int], ...]
    values: dict[str, tuple[str, ...]]  # names of the values, if meta.json has them

    @property
    def is_style(self) -> bool:
        """Whether the only attribute is the style of the image (K-Fashion)."""
        return [name for name, _ in self.attributes] == ["style"]

    def vocabulary(self) -> Vocabulary:
        """Names of all values, `attribute/value`, grouped by attribute; `style_0` … for styles, which have no names."""
        if self.attributes == _KNOWN["fashionai"]:
            return _FASHIONAI
        names: list[str] = []
        groups: dict[str, tuple[int, ...]] = {}
        for attribute, count in self.attributes:
            groups[attribute] = tuple(range(len(names), len(names) + count))
            values = self.values.get(attribute, tuple(str(value) for value in range(count)))
            names += [f"style_{value}" if self.is_style else f"{attribute}/{value}" for value in values]
        kind = "style" if self.is_style else "attribute"
        return Vocabulary(f"asen-{self.name}-{kind}-{len(names)}", tuple(names), {} if self.is_style else groups)

    def id_of(self, attribute: int, value: int) -> int:
        """Return the id of a value in the vocabulary."""
        return sum(count for _, count in self.attributes[:attribute]) + value

    def files(self, split: str) -> dict[str, Path]:
        """Return the existing label files of a split, by role."""
        paths = {role: self.folder / f"{role}_{split}.txt" for role in ROLES}
        return {role: path for role, path in paths.items() if is_file(path)}


def find_layout(raw: RawFolder) -> Layout:
    """Find the only data set at most three folders deep. Raises `UsageError` if there is none or several."""
    folders: dict[Path, None] = {}
    for given in raw.given:
        start = given if given.is_dir() else given.parent
        for here, names, files in raw.walk(start):
            depth = len(here.relative_to(start).parts)
            names[:] = [name for name in names if depth < 3 and name not in ("Images", "images", "img")]
            if any(f"filenames_{split}.txt" in files for split in SPLITS):
                folders[here] = None
                names.clear()
        if given.is_file() and given.name not in _META and given.suffix == ".json":
            raise UsageError(f"{given}: expected meta.json or the folder of filenames_train.txt")
    if not folders:
        raise raw.nothing_found("no lists in the layout of ASEN here; expected filenames_train.txt and label_train.txt")
    if len(folders) > 1:
        several = ", ".join(raw.name_of(folder) for folder in sorted(folders))
        raise UsageError(f"{several}: several data sets; pass the folder of one of them, and its meta.json")
    return _with_meta(raw, next(iter(folders)))


def _with_meta(raw: RawFolder, folder: Path) -> Layout:
    folders = [folder, *folder.parents, *(given.parent for given in raw.given)]
    inside = [home for home in folders if home.is_relative_to(raw.root)]
    path = next((home / name for home in inside for name in _META if is_file(home / name)), None)
    if path is None:
        name = _match(folder, _KNOWN)
        if not name:
            raise UsageError(f"{raw.name_of(folder)}: meta.json is missing; put it next to filenames_train.txt")
        raw.notes.append(f"no meta.json; attributes are those that ASEN uses for {name}")
        return Layout(folder, name, _KNOWN[name], {})
    file = raw.open_file(path)
    file.accounts["header"] += len(file)
    try:
        meta: object = json.loads(read_unchanged(path, file.name).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file.name}: this is not JSON ({str(error)[:100]}); restore it") from None
    if not isinstance(meta, dict):
        raise UsageError(f"{file.name}: expected a JSON object; restore it")
    entries = cast("dict[str, Any]", meta)
    try:
        if "ATTRIBUTES" in entries:
            attributes = tuple((_text(name), _count(entries["ATTRIBUTES_NUM"][name])) for name in entries["ATTRIBUTES"])
            named = entries.get("ATTRIBUTES_VALUES", {})
            values = {name: tuple(map(_text, named.get(name, ()))) for name, _ in attributes}
            by_attributes = next((known for known, has in _KNOWN.items() if has == attributes), "dataset")
            name = _match(folder, _KNOWN) or by_attributes
            return Layout(folder, name, attributes, {name: names for name, names in values.items() if names})
        name = _match(folder, entries) or (next(iter(entries)) if len(entries) == 1 else "")
        if not name:
            known = ", ".join(str(entry)[:40] for entry in entries)
            raise UsageError(f"{file.name}: no section for the folder {folder.name!r}, only {known}; rename the folder")
        section = entries[name]
        _note_absent(raw, folder, section)
        attributes = tuple((_text(entry["name"]), _count(entry["num"])) for entry in section["attributes"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{file.name}: the attributes are not in ASEN's format ({error!r:.100}); restore it") from None
    return Layout(folder, name.lower(), attributes, {})


def _match(folder: Path, names: Sequence[str] | dict[str, Any]) -> str:
    """Return the name that matches the folder or its nearest matching parent."""
    by_lower = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in names}
    parts = [re.sub(r"[^a-z0-9]", "", part.lower()) for part in reversed(folder.parts[-3:])]
    return next((by_lower[part] for part in parts if part in by_lower), "")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a name")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 1 <= value <= 10_000:
        raise ValueError(f"{value!r} is not a number of values")
    return value


def _note_absent(raw: RawFolder, folder: Path, section: dict[str, Any]) -> None:
    """Note files that meta.json lists but the tree lacks: the release of K-Fashion lacks those of its test split."""
    named: list[object] = []
    for split in SPLITS:
        files = section.get(split, {})
        labels = files.get("label_file", [])
        named += [files.get("fname_list"), *(labels.values() if isinstance(labels, dict) else [labels])]
    absent = [name for name in named if isinstance(name, str) and name and not (folder / name).is_file()]
    if absent:
        raw.notes.append(f"meta.json lists missing files: {', '.join(absent)}")


def parse_label(content: bytes) -> tuple[int, list[tuple[int, int]]] | None:
    """Parse a label line into image index and (attribute, value) pairs; None if it has another form."""
    if _LABEL.fullmatch(content) is None:
        return None
    first, *numbers = map(int, content.split())
    return first, list(zip(numbers[::2], numbers[1::2], strict=True))


def image_home(raw: RawFolder, layout: Layout, names: Sequence[str]) -> str:
    """Return the prefix that turns image names into paths from the raw root; checks the first few images."""
    folder = layout.folder
    inner = raw.folders_in(folder)
    homes = [folder, *inner, *(base / "images" for base in (folder, *inner)), folder.parent]
    inside = (home for home in homes if home.is_relative_to(raw.root))
    return raw.prefix_of(
        next((home for home in inside if any(raw.has_image(home, name) for name in names[:20])), folder)
    )


def spelling_on_disk(root: Path, prefix: str, names: Sequence[str]) -> list[str]:
    """Return the names with folders in the Unicode form (NFC or NFD) used on disk: macOS decomposes Hangul."""
    on_disk: dict[str, str] = {}
    for folder in {name.rpartition("/")[0] for name in names if not name.isascii()}:
        spellings = (folder, unicodedata.normalize("NFC", folder), unicodedata.normalize("NFD", folder))
        on_disk[folder] = next((other for other in spellings if (root / (prefix + other)).is_dir()), folder)
    parts = [name.rpartition("/") for name in names]
    return [f"{on_disk.get(folder, folder)}/{last}" if slash else last for folder, slash, last in parts]
