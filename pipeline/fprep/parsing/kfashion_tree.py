"""Where K-Fashion lies on a disk: folders of labels, and the folders of pictures that belong to them.

Pictures stand beside the labels or in a parallel tree: `라벨링데이터/<style>/1.json` and `원천데이터_2/<style>/1.jpg`, or `labels`
and `images`. Names are compared after NFC normalisation, for an archive unpacked on a Mac has them in NFD, and without spaces.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fprep.raw import RawFolder
from fschemas.failures import UsageError

_LABELS = re.compile(r"^(\[?라벨\]?|라벨링데이터|labels?|annotations?)")
_PICTURES = re.compile(r"^(\[?원천\]?|원천데이터|images?|pictures?)")
_SPLITS = {"training": "train", "train": "train", "validation": "val", "valid": "val", "val": "val"}
_PICTURE_ENDS = (".jpg", ".jpeg", ".png")


@dataclass
class Folder:
    """A folder of the tree: its path from the root in the disk's spelling, its label files, and what pictures it has."""

    path: str
    labels: list[str] = field(default_factory=list[str])
    has_pictures: bool = False
    is_regular: bool = True  # all pictures end in .jpg


def plain(name: str) -> str:
    """A folder's name as it is compared: NFC, without spaces, small."""
    return unicodedata.normalize("NFC", name).replace(" ", "").casefold()


def split_of(path: str) -> str:
    """train or val by the folders of a path; train where none says it."""
    for part in reversed(path.split("/")):
        split = _SPLITS.get(plain(part).lstrip("0123456789."))
        if split:
            return split
    return "train"


def scan(raw: RawFolder) -> dict[str, Folder]:
    """All folders below what was given, by path. Links to folders are not followed; what is hidden is passed over.

    Raises `UsageError` for names that are not UTF-8 and where there is no label file.
    """
    folders: dict[str, Folder] = {}
    links, archives = 0, 0
    for given in raw.given:
        if given.is_file():
            path = raw.name_of(given.parent)
            folders.setdefault(path, Folder(path)).labels.append(given.name)
            continue
        waiting = [given]
        while waiting:
            place = waiting.pop()
            path = raw.name_of(place)
            folder = folders[path] = Folder(path)
            with os.scandir(place) as entries:
                for entry in entries:
                    name = entry.name
                    end = name[-5:].lower()
                    if name[0] == "." or name == "__MACOSX":
                        continue
                    if end == ".json":
                        folder.labels.append(name)
                    elif end.endswith(_PICTURE_ENDS) or end == ".jpeg":
                        folder.has_pictures = True
                        folder.is_regular &= name.endswith(".jpg")
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(place / name)
                    else:
                        links += entry.is_symlink()
                        archives += end.endswith(".zip")
            folder.labels.sort()
    _check_names(folders.values())
    if links:
        raw.notes.append(f"{links} symbolic links are not followed; name the folders that they point to")
    if not any(folder.labels for folder in folders.values()):
        places = ", ".join(str(place) for place in raw.given)
        hint = "unpack the archives (라벨링데이터.zip)" if archives else "name the folder that 라벨링데이터 was unpacked into"
        raise UsageError(f"{places}: no label file (*.json) below; {hint}")
    return dict(sorted(folders.items()))


def _check_names(folders: Iterable[Folder]) -> None:
    for folder in folders:
        for name in folder.labels:
            if not name.isascii() and name.encode(errors="replace").decode() != name:
                raise UsageError(f"{folder.path}/{name!r}: the name of this file is not UTF-8; rename it")


class PictureFolders:
    """Finds the picture of a record: `<stem>.jpg` or `<id>.jpg`."""

    def __init__(self, root: Path, folders: dict[str, Folder]) -> None:
        self.root = root
        self.folders = [folder for folder in folders.values() if folder.has_pictures]
        self.by_plain_path: dict[str, list[Folder]] = {}
        for folder in self.folders:
            self.by_plain_path.setdefault(_without_kind(folder.path)[1], []).append(folder)

    def of(self, labels: Folder) -> list[Folder]:
        """Folders that hold the pictures of a folder of labels, likeliest first."""
        kind, path = _without_kind(labels.path)
        if labels.has_pictures or not kind:
            return [labels]
        found = [folder for folder in self.by_plain_path.get(path, []) if _without_kind(folder.path)[0] == "pictures"]
        return found or [labels]

    def images(self, labels: Folder, stems: list[str], ids: list[int]) -> list[str]:
        """Paths of the pictures of records, from the root; where none is there, the one that should be."""
        candidates = self.of(labels)
        first = _prefix(candidates[0])
        if len(candidates) == 1 and candidates[0].is_regular and all(map(_is_id, stems, ids)):
            return [f"{first}{stem}.jpg" for stem in stems]
        there: dict[str, str] = {}
        for folder in reversed(candidates):
            names = sorted(os.listdir(self.root / folder.path), reverse=True) if folder.has_pictures else []
            there |= {
                unicodedata.normalize("NFC", name.rpartition(".")[0]): _prefix(folder) + name
                for name in names
                if _is_picture(name)
            }
        expected = [unicodedata.normalize("NFC", stem) for stem in stems]
        return [
            there.get(stem) or there.get(str(number)) or f"{first}{number if number >= 0 else stem}.jpg"
            for stem, number in zip(expected, ids, strict=True)
        ]


def _is_id(stem: str, number: int) -> bool:
    return stem == str(number)


def _is_picture(name: str) -> bool:
    return name.lower().endswith((*_PICTURE_ENDS, ".jpeg"))


def _prefix(folder: Folder) -> str:
    return "" if folder.path == "." else f"{folder.path}/"


def _without_kind(path: str) -> tuple[str, str]:
    """What a path says it holds (labels, pictures or ""), and the path as it is compared, without the folder that says so."""
    parts = [plain(part) for part in path.split("/")]
    for index in range(len(parts) - 1, -1, -1):
        for kind, pattern in (("labels", _LABELS), ("pictures", _PICTURES)):
            if pattern.match(parts[index]):
                return kind, "/".join(parts[:index] + parts[index + 1 :])
    return "", "/".join(parts)
