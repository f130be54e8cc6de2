"""Quirks planted into samples of DeepFashion's benchmarks, each listed in `defects.json`.

Every entry names the list, its line (1-based as it stands in the end; null for a whole file), the image, the rule that should
notice it, what was done and the verdict. No image gets two quirks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fprep.synthetic.layouts.deepfashion_coarse import Coarse
from fprep.synthetic.layouts.image_defects import SPOILT_IMAGES
from fprep.synthetic.layouts.tree import Defect, chance, write_defects

_HEADER_LINES = 2
Change = Callable[[str], str]


class ListSpoiler:
    """Takes one untouched image after the other and spoils its row in one of the lists, or the image itself."""

    def __init__(self, folder: Path, files: dict[str, str], images: Path, seed: int) -> None:
        """`files` gives short names to the lists (below `folder`); the first names the images, which lie below `with_images`."""
        self.folder, self.images, self.files = folder, images, files
        self.lines = {name: (folder / file).read_text(encoding="utf-8").splitlines() for name, file in files.items()}
        first = next(iter(self.lines.values()))[_HEADER_LINES:]
        paths = list(dict.fromkeys(line.split()[0] for line in first))
        self._untouched = [paths[place] for place in chance(seed, 127).permutation(len(paths)).tolist()]
        self._planted: list[tuple[str, str, Defect]] = []  # short name, text of the line, what was planted

    def take(self) -> str:
        """The next untouched image."""
        return self._untouched.pop(0)

    def change(self, name: str, rule: str, what: str, change: Change, verdict: str = "rejected") -> None:
        """Rewrite the row of an image in one list."""
        path = self.take()
        place = self._place(name, path)
        self.lines[name][place] = change(self.lines[name][place])
        self._note(name, place, path, rule, what, verdict)

    def remove(self, name: str, verdict: str) -> None:
        """Delete the row of an image from one list, whose count line then says one too many."""
        path = self.take()
        del self.lines[name][self._place(name, path)]
        self._planted.append(
            (name, "", Defect(self.files[name], None, path, "missing_row", "the row was deleted", verdict))
        )

    def repeat(self, name: str) -> None:
        """Write a row twice."""
        path = self.take()
        place = self._place(name, path)
        self.lines[name].insert(place + 1, self.lines[name][place])
        self._planted.append(
            (name, "", Defect(self.files[name], None, path, "repeated_row", "the row stands twice", "kept"))
        )

    def note_file(self, name: str, rule: str, what: str) -> None:
        """Enter a quirk of a whole file that is kept."""
        self._planted.append((name, "", Defect(self.files[name], None, None, rule, what, "kept")))

    def spoil_images(self, name: str) -> None:
        """Files that are damaged, missing, or not what their name says."""
        for rule, (what, change, verdict) in SPOILT_IMAGES.items():
            path = self.take()
            file = self.images / path
            file.write_bytes(change(file.read_bytes()))
            self._note(name, self._place(name, path), path, rule, what, verdict)
        path = self.take()
        (self.images / path).unlink()
        self._note(name, self._place(name, path), path, "missing_image", "the file was deleted", "rejected")

    def finish(self, newlines: dict[str, str] | None = None) -> int:
        """Write the lists and `defects.json`; returns how many quirks were planted."""
        for name, lines in self.lines.items():
            newline = (newlines or {}).get(name, "\n")
            (self.folder / self.files[name]).write_bytes("".join(line + newline for line in lines).encode())
        defects: list[Defect] = []
        for name, text, defect in self._planted:
            line = self.lines[name].index(text) + 1 if text else None
            defects.append(Defect(defect.file, line, defect.image, defect.rule, defect.what, defect.verdict))
        write_defects(self.folder, defects)
        return len(defects)

    def _place(self, name: str, path: str) -> int:
        return next(place for place, line in enumerate(self.lines[name]) if line.startswith(path + " "))

    def _note(self, name: str, place: int, path: str, rule: str, what: str, verdict: str) -> None:
        self._planted.append((name, self.lines[name][place], Defect(self.files[name], None, path, rule, what, verdict)))


def spoil_boxes(spoiler: ListSpoiler, name: str, missing: str = "rejected") -> None:
    """Boxes that cannot be read or cannot be; `missing` is the verdict of an image without one."""
    spoiler.change(name, "bad_cell", "x_1 is 1_2", lambda line: re.sub(r"\d{3}( \d{3} \d{3} \d{3})$", r"1_2\1", line))
    spoiler.change(name, "bad_cell", "y_2 is nan", lambda line: re.sub(r"\d{3}$", "nan", line))
    spoiler.change(name, "wrong_columns", "three numbers", lambda line: re.sub(r" \d{3}$", "", line))
    spoiler.change(name, "box_inverted", "x_2 and x_1 changed places", _swapped)
    spoiler.change(name, "box_outside", "x_2 is 999", lambda line: re.sub(r"\d{3} (\d{3})$", r"999 \1", line))
    spoiler.remove(name, missing)


def spoil_landmarks(spoiler: ListSpoiler, name: str, cut: int) -> None:
    """Landmarks that cannot be read or cannot be; `cut` numbers less fit neither layout."""
    spoiler.change(
        name, "bad_visibility", "the last visibility is 3", lambda line: re.sub(r"\d (\d{3} \d{3}) $", r"3 \1 ", line)
    )
    shorter: Change = lambda line: " ".join([*line.split(" ")[: -1 - cut], ""])  # noqa: E731
    spoiler.change(name, "wrong_columns", f"cut by {cut}: the last numbers are missing", shorter)
    outside: Change = lambda line: re.sub(r"\d \d{3} (\d{3}) $", r"0 999 \1 ", line)  # noqa: E731
    spoiler.change(name, "point_outside", "x of the last point is 999", outside)


def plant_defects(folder: Path, coarse: Coarse, seed: int) -> int:
    """Spoil a sample of the category benchmark."""
    lists = {
        "bbox": "list_bbox",
        "landmarks": "list_landmarks",
        "category": "list_category_img",
        "attr": "list_attr_img",
    }
    files = {name: f"Anno_coarse/{stem}.txt" for name, stem in lists.items()} | {"eval": "Eval/list_eval_partition.txt"}
    spoiler = ListSpoiler(folder, files, folder / "Img", seed)
    spoil_boxes(spoiler, "bbox")
    spoil_landmarks(spoiler, "landmarks", 1)
    spoiler.change("category", "unknown_category", "category 51", lambda line: re.sub(r"\d+$", "51", line))
    spoiler.change("category", "unknown_category", "category 0", lambda line: re.sub(r"\d+$", "0", line))
    spoiler.change("attr", "bad_cell", "the last attribute is 2", lambda line: re.sub(r" -?\d$", " 2", line))
    spoiler.change("attr", "wrong_columns", "999 attributes", lambda line: re.sub(r" +-?\d$", "", line))
    spoiler.change("eval", "unknown_split", "the status is valid", lambda line: re.sub(r"\w+$", "valid", line))
    spoiler.change("eval", "path_escape", "a path that leaves the tree", lambda line: "img/../../" + line)
    spoiler.repeat("category")
    spoiler.spoil_images("eval")
    spoiler.note_file("category", "crlf", "every line ends with CR LF")
    spoiler.lines["landmarks"][0] = str(len(coarse.paths) + 7)
    spoiler.note_file("landmarks", "count_differs", "the count line says 7 too many")
    return spoiler.finish({"category": "\r\n"})


def plant_inshop_defects(folder: Path, seed: int) -> int:
    """Spoil a sample of the in-shop benchmark."""
    files = {
        "eval": "Eval/list_eval_partition.txt",
        "bbox": "Anno/list_bbox_inshop.txt",
        "landmarks": "Anno/list_landmarks_inshop.txt",
    }
    spoiler = ListSpoiler(folder, files, folder / "Img", seed)
    spoil_boxes(spoiler, "bbox", "kept")
    spoil_landmarks(spoiler, "landmarks", 2)
    unknown: Change = lambda line: re.sub(r"(train|query|gallery) +$", "testing    ", line)  # noqa: E731
    spoiler.change("eval", "unknown_split", "the status is testing", unknown)
    spoiler.change(
        "eval", "item_path_mismatch", "the item id has a letter", lambda line: re.sub(r" id_0", " id_x", line)
    )
    spoiler.spoil_images("eval")
    return spoiler.finish()


def plant_consumer2shop_defects(folder: Path, seed: int) -> int:
    """Spoil a sample of the consumer-to-shop benchmark."""
    files = {"bbox": "Anno/list_bbox_consumer2shop.txt", "landmarks": "Anno/list_landmarks_consumer2shop.txt"}
    spoiler = ListSpoiler(folder, files, folder / "Img", seed)
    spoil_landmarks(spoiler, "landmarks", 2)
    spoiler.change("bbox", "bad_cell", "x_1 is 1_2", lambda line: re.sub(r"\d{3}( \d{3} \d{3} \d{3})$", r"1_2\1", line))
    spoiler.change("bbox", "box_inverted", "x_2 and x_1 changed places", _swapped)
    source: Change = lambda line: re.sub(r" \d( \d{3} \d{3} \d{3} \d{3})$", r" 3\1", line)  # noqa: E731
    spoiler.change("bbox", "source_differs", "the source type is 3", source, "kept")
    spoiler.spoil_images("bbox")
    return spoiler.finish()


def plant_landmark_defects(folder: Path, seed: int) -> int:
    """Spoil a sample of the landmark benchmark."""
    files = {
        "eval": "Eval/list_eval_partition.txt",
        "bbox": "Anno/list_bbox.txt",
        "landmarks": "Anno/list_landmarks.txt",
    }
    spoiler = ListSpoiler(folder, files, folder / "Img", seed)
    spoil_boxes(spoiler, "bbox")
    spoil_landmarks(spoiler, "landmarks", 2)
    spoiler.change("eval", "unknown_split", "the status is valid", lambda line: re.sub(r"\w+$", "valid", line))
    spoiler.spoil_images("eval")
    return spoiler.finish()


def _swapped(line: str) -> str:
    return re.sub(r"(\d{3}) (\d{3}) (\d{3}) (\d{3})$", r"\3 \2 \1 \4", line)
