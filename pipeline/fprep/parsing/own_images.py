"""Where the images of a user's own table are, and which file a name means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fprep.parsing.own_pictures import PICTURE_ENDS
from fprep.raw import RawFolder, picture_path_fault
from fschemas.failures import UsageError

IMAGE_FOLDERS = ("", "img", "images", "image", "pictures", "photos")
_NUM_SAMPLES = 20
_ENDS = tuple(end for lower in PICTURE_ENDS for end in (lower, lower.upper()))


def file_of(folder: Path, name: str) -> str | None:
    """The file below a folder that a name means, as written or with the extension that it lacks; None where there is none."""
    if picture_path_fault(name) is not None:
        return None
    return next((name + end for end in ("", *_ENDS) if (folder / (name + end)).is_file()), None)


class ImagePlaces:
    """The folders where the images of a table may be: beside it, in the raw folders given with it, and in `img` or `images` there.

    With `--map folder=` that folder alone; raises `UsageError` where it is not there.
    """

    def __init__(self, raw: RawFolder, table: Path) -> None:
        self.raw, self.table = raw, table
        if "folder" in raw.mapping:
            place = (table.parent / raw.mapping["folder"]).resolve()
            if not place.is_dir() or not place.is_relative_to(raw.root):
                raise UsageError(
                    f"--map folder={raw.mapping['folder']}: no such folder beside {table.name}; give it as a raw folder"
                )
            self.folders = [place]
            return
        homes = dict.fromkeys([table.parent, *(given for given in raw.given if given.is_dir()), raw.root])
        folders = dict.fromkeys(home / name if name else home for home in homes for name in IMAGE_FOLDERS)
        self.folders = [folder for folder in folders if folder.is_relative_to(raw.root) and folder.is_dir()]

    def has(self, name: str) -> bool:
        """Whether a name is that of an image in one of the folders."""
        return any(file_of(folder, name) is not None for folder in self.folders)

    def find(self, names: Sequence[str]) -> list[str]:
        """Paths from the raw root: below the folder that has most of the images, with the extension that a name lacks."""
        some = [names[place * len(names) // _NUM_SAMPLES] for place in range(_NUM_SAMPLES)] if names else []
        home = max(self.folders, key=lambda folder: sum(file_of(folder, name) is not None for name in some))
        prefix = "" if home == self.raw.root else f"{self.raw.name_of(home)}/"
        found = [name if Path(name).suffix.lower() in PICTURE_ENDS else file_of(home, name) or name for name in names]
        extended = sum(name != other for name, other in zip(names, found, strict=True))
        if extended:
            self.raw.notes.append(f"{self.table.name}: {extended} names of images lack the extension that the files have")
        if all(file_of(home, name) for name in some):
            return [prefix + name for name in found]
        return self._find_below(home, prefix, found)

    def _find_below(self, home: Path, prefix: str, names: Sequence[str]) -> list[str]:
        """The same for images that lie in folders which the table does not name; only a name that occurs once is taken."""
        paths = self._by_name()
        found: list[str] = []
        for name in names:
            places = paths.get(name, []) if "/" not in name else []
            is_elsewhere = len(places) == 1 and not (home / name).is_file()
            found.append(places[0] if is_elsewhere else prefix + name)
        elsewhere = sum(path != prefix + name for path, name in zip(found, names, strict=True))
        if elsewhere:
            self.raw.notes.append(f"{self.table.name}: {elsewhere} images lie in folders that the table does not name")
        return found

    def _by_name(self) -> dict[str, list[str]]:
        """Paths from the raw root of all images below the folders, by their names with and without extension."""
        paths: dict[str, None] = {}
        for folder in self.folders:
            for place, folders, files in os.walk(folder):
                folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
                pictures = [name for name in sorted(files) if name[0] != "." and name.lower().endswith(PICTURE_ENDS)]
                paths |= dict.fromkeys(self.raw.name_of(Path(place) / name) for name in pictures)
        found: dict[str, list[str]] = {}
        for path in paths:
            last = path.rpartition("/")[2]
            for name in {last, last.rpartition(".")[0]}:
                found.setdefault(name, []).append(path)
        return found
