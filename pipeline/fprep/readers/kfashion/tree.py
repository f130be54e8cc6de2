"""Directory tree of K-Fashion: folders of labels, and the folders of the corresponding images.

Images are next to the labels or in a parallel tree: `라벨링데이터/<style>/1.json` and `원천데이터_2/<style>/1.jpg`, or `labels`
and `images`. Names are compared without spaces and after NFC normalization, because archives unpacked on a Mac use NFD.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from fprep.raw.folder import RawFolder
from fschemas.image_limits import IMAGE_EXTENSIONS
from fschemas.walk import list_folder, readable

_LABELS = re.compile(r"^(\[?라벨\]?|라벨링데이터|labels?|annotations?)")
_IMAGES = re.compile(r"^(\[?원천\]?|원천데이터|images?|images?)")
_SPLITS = {"training": "train", "train": "train", "validation": "val", "valid": "val", "val": "val"}


@dataclass
class Folder:
    """A folder of the tree: its path from the root as spelled on disk, its label files, and what images it has.

    `misnamed` are label files with a non-UTF-8 byte in their name or in that of a parent folder.
    """

    path: str
    labels: list[str] = field(default_factory=list[str])
    misnamed: list[str] = field(default_factory=list[str])
    has_images: bool = False
    is_regular: bool = True  # all images end in .jpg


def plain(name: str) -> str:
    """Normalize a folder name for comparison: NFC, no spaces, lowercase."""
    return unicodedata.normalize("NFC", name).replace(" ", "").casefold()


def split_of(path: str) -> str:
    """Return train or val by the folders of a path; train by default."""
    parts = (plain(part).lstrip("0123456789.") for part in reversed(path.split("/")))
    return next((_SPLITS[part] for part in parts if part in _SPLITS), "train")


def scan(raw: RawFolder) -> dict[str, Folder]:
    """Return all folders below the raw folders, by path. Raises `UsageError` if there is no label file."""
    folders: dict[str, Folder] = {}
    archives = 0
    for given in raw.given:
        if given.is_file():
            path = raw.name_of(given.parent)
            folders.setdefault(path, Folder(path)).labels.append(given.name)
            continue
        for here, _, files in raw.walk(given):
            path = raw.name_of(here)
            folder = folders[path] = Folder(path)
            is_text = path == here.relative_to(raw.root).as_posix()
            for name in files:
                end = name[-5:].lower()
                if end == ".json":
                    is_named = is_text and (name.isascii() or readable(name) == name)
                    (folder.labels if is_named else folder.misnamed).append(name)
                elif end.endswith(IMAGE_EXTENSIONS):
                    folder.has_images = True
                    folder.is_regular &= name.endswith(".jpg")
                else:
                    archives += end.endswith(".zip")
    if not any(folder.labels or folder.misnamed for folder in folders.values()):
        unpacked = "choose the folder that 라벨링데이터 was unpacked into"
        hint = "unpack the archives (라벨링데이터.zip)" if archives else unpacked
        raise raw.nothing_found(f"no label file (*.json) below; {hint}")
    return dict(sorted(folders.items()))


class ImageFolders:
    """Find the image of a record: `<stem>.jpg` or `<id>.jpg`. `near` maps usual to unusual spellings."""

    def __init__(self, root: Path, folders: dict[str, Folder]) -> None:
        self.root = root
        self.near: dict[str, str] = {}
        self.folders = [folder for folder in folders.values() if folder.has_images]
        self.by_plain_path: dict[str, list[Folder]] = {}
        for folder in self.folders:
            self.by_plain_path.setdefault(_without_kind(folder.path)[1], []).append(folder)

    def of(self, labels: Folder) -> list[Folder]:
        """Return the folders with the images of a folder of labels, most likely first."""
        kind, path = _without_kind(labels.path)
        beside = self.by_plain_path.get(path, []) if kind and not labels.has_images else []
        return [folder for folder in beside if _without_kind(folder.path)[0] == "images"] or [labels]

    def images(self, labels: Folder, stems: list[str], ids: list[int]) -> list[str]:
        """Return image paths of records from the root; for missing images, the expected path."""
        candidates = self.of(labels)
        first = _prefix(candidates[0])
        if len(candidates) == 1 and candidates[0].is_regular and stems == list(map(str, ids)):
            return [f"{first}{stem}.jpg" for stem in stems]
        there = [self._files(folder) for folder in candidates if folder.has_images]
        return [self._find(there, first, stem, number) for stem, number in zip(stems, ids, strict=True)]

    def _files(self, folder: Folder) -> dict[str, list[str]]:
        """Return the images in a folder by their NFC names without extension."""
        files: dict[str, list[str]] = {}
        for name in list_folder(self.root / folder.path).files:
            if name.lower().endswith(IMAGE_EXTENSIONS):
                stem = unicodedata.normalize("NFC", name.rpartition(".")[0])
                files.setdefault(stem, []).append(_prefix(folder) + name)
        return files

    def _find(self, there: list[dict[str, list[str]]], first: str, stem: str, number: int) -> str:
        for wanted in (stem, str(number)):
            found = next((files[key] for files in there if (key := unicodedata.normalize("NFC", wanted)) in files), [])
            exact = [path for path in found if path.rpartition("/")[2] == f"{wanted}.jpg"]
            if exact:
                return exact[0]
            if len(found) == 1:
                self.near[found[0].rpartition("/")[0] + f"/{wanted}.jpg"] = found[0]
                return found[0]
        return f"{first}{number if number >= 0 else stem}.jpg"


def _prefix(folder: Folder) -> str:
    return "" if folder.path == "." else f"{folder.path}/"


def _without_kind(path: str) -> tuple[str, str]:
    """Return the kind of content in a path (labels, images or ""), and the normalized path without that component."""
    parts = [plain(part) for part in path.split("/")]
    for index in range(len(parts) - 1, -1, -1):
        for kind, pattern in (("labels", _LABELS), ("images", _IMAGES)):
            if pattern.match(parts[index]):
                return kind, "/".join(parts[:index] + parts[index + 1 :])
    return "", "/".join(parts)
