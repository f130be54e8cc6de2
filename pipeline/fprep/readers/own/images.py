"""Image lookup for a user's own table."""

import os
from collections.abc import Sequence
from pathlib import Path

from fprep.raw.folder import RawFolder
from fprep.raw.image_names import clean_path, image_path_problem
from fschemas.failures import UsageError
from fschemas.image_limits import IMAGE_EXTENSIONS
from fschemas.walk import walk
from fschemas.wording import count

IMAGE_FOLDERS = ("", "img", "images", "image", "photos")
_NUM_SAMPLES = 20


class ImageLocations:
    """Folders that may contain a table's images: next to it, the given raw folders, and `img` or `images` in these.

    With `--map folder=`, only that folder. Raises `UsageError` if it does not exist.
    """

    def __init__(self, raw: RawFolder, table: Path) -> None:
        self.raw, self.table = raw, table
        if "folder" in raw.mapping:
            folder = Path(os.path.normpath(table.parent / raw.mapping["folder"]))
            if not folder.is_dir() or not folder.is_relative_to(raw.root):
                name = raw.mapping["folder"]
                raise UsageError(f"--map folder={name}: no such folder next to {table.name}; pass it as a raw folder")
            self.folders = [folder]
            return
        homes = dict.fromkeys([table.parent, *(given for given in raw.given if given.is_dir()), raw.root])
        folders = dict.fromkeys(home / name if name else home for home in homes for name in IMAGE_FOLDERS)
        self.folders = [folder for folder in folders if folder.is_relative_to(raw.root)]

    def has(self, name: str) -> bool:
        """Return whether the name, or a similar one, is an image in one of the folders."""
        return any(self._in(folder, name) for folder in self.folders)

    def find(self, names: Sequence[str]) -> list[str]:
        """Return paths from the raw root: below the folder with most of the images, with missing extensions added."""
        some = [names[index * len(names) // _NUM_SAMPLES] for index in range(_NUM_SAMPLES)] if names else []
        home = max(self.folders, key=lambda folder: sum(self._in(folder, name) for name in some))
        prefix = self.raw.prefix_of(home)
        found = [prefix + name if _has_suffix(name) else self._with_suffix(prefix, name) for name in names]
        extended = sum(prefix + name != other for name, other in zip(names, found, strict=True))
        if extended:
            lacking = count(extended, "image name")
            self.raw.notes.append(f"{self.table.name}: {lacking} without the extension that the file has")
        if all(self._in(home, name) for name in some):
            return found
        return self._find_below(home, names, found)

    def _find_below(self, home: Path, names: Sequence[str], paths: list[str]) -> list[str]:
        """Also find images in subfolders that the table omits; only names that occur once are used."""
        below = self._by_name()
        found: list[str] = []
        for name, path in zip(names, paths, strict=True):
            matches = below.get(name, []) if "/" not in clean_path(name) else []
            found.append(matches[0] if len(matches) == 1 and not self._in(home, name) else path)
        elsewhere = sum(path != other for path, other in zip(found, paths, strict=True))
        if elsewhere:
            found_there = count(elsewhere, "image")
            self.raw.notes.append(f"{self.table.name}: {found_there} in folders that the table does not name")
        return found

    def _by_name(self) -> dict[str, list[str]]:
        """Return paths from the raw root of all images below the folders, by name with and without extension."""
        paths: dict[str, None] = {}
        for folder in self.folders:
            for here, _, files in walk(folder, follow_links=self.raw.follow_links, on_error=lambda _: None):
                paths |= dict.fromkeys(self.raw.name_of(here / name) for name in files if _has_suffix(name))
        found: dict[str, list[str]] = {}
        for path in paths:
            last = path.rpartition("/")[2]
            for name in {last, last.rpartition(".")[0]}:
                found.setdefault(name, []).append(path)
        return found

    def _in(self, folder: Path, name: str) -> bool:
        name = clean_path(name)
        return image_path_problem(name) is None and self.raw.has_image(folder, name)

    def _with_suffix(self, prefix: str, name: str) -> str:
        """Return the only file with this name plus an extension; the name itself if there are none or several."""
        near = [found.path for found in self.raw.images.near(prefix + name)]
        own = [path for path in near if _has_suffix(path) and path.rpartition(".")[0] == prefix + name]
        return own[0] if len(near) == len(own) == 1 else prefix + name


def _has_suffix(name: str) -> bool:
    return name.lower().endswith(IMAGE_EXTENSIONS)
