"""Rows of a table from COCO annotations: one row per garment, with the column groups of a plan.

    plan = Plan(("category", "box", "polygons", "attributes"), attributes=vocabulary("my-attributes"))
    return read_planned(raw, plan).lazy()

The reader of a specific data set writes its plan as above; the reader `coco` derives one from the files (`guess.py`).
COCO boxes and outlines start at the corner of the top left pixel, keypoints at its center: a box x, y, width, height
has its last pixel at x + width - 1, and outlines are shifted by half a pixel (as in the masks of pycocotools).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import polars as pl

from fprep.raw.folder import MAX_RAW, RawFolder, RawLine, document_pattern
from fprep.raw.image_names import clean_path, image_path_problem
from fprep.readers.coco.file import CocoFile, Entry, coco_files, image_prefix, read_coco, split_named
from fprep.readers.json_document import Problem, numbers_of, polygons_of
from fprep.readers.own.conventions import plain
from fprep.readers.reader import BOX_TEXT, frame_of, safe_key
from fprep.readers.units import corners_of
from fschemas.image_limits import MAX_SIDE, MIN_SIDE
from fschemas.landmarks import LandmarkSet, Visibility
from fschemas.regular_file import open_regular
from fschemas.tables import COLUMN_GROUPS, SampleTable, table_class
from fschemas.vocabularies import Vocabulary
from fschemas.wording import count

_BASE = ("key", "image", "width", "height", "split", "group", "source_file", "source_line")


@dataclass(frozen=True)
class Plan:
    """The columns of the rows: column groups among `category`, `box`, `polygons`, `attributes` and `landmarks`.

    `form` is the box format (`fprep.readers.units.BOX_FORMS`); `pixels` is true if coordinates are pixels. `categories`
    and `attributes` are matched by their names in the file; with `categories`, any other name is a problem. `garments`
    maps a category name to its garment of `landmarks` and to the landmark index of each keypoint in the file.
    """

    groups: tuple[str, ...]
    form: str = "size"
    pixels: bool = True
    categories: Vocabulary | None = None
    landmarks: LandmarkSet | None = None
    garments: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict[str, tuple[str, tuple[int, ...]]])
    attributes: Vocabulary | None = None

    @property
    def table(self) -> type[SampleTable]:
        """The table class with the column groups."""
        return table_class(*self.groups)

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """The vocabularies by column, as for `Reader`."""
        named = {"category": self.categories, "attributes": self.attributes}
        return {column: vocabulary for column, vocabulary in named.items() if vocabulary is not None}


def read_planned(raw: RawFolder, plan: Plan, pattern: str = "*.json") -> pl.DataFrame:
    """Read the COCO files whose names match `pattern` (see `coco_files`), one row per annotation."""
    files = (read_coco(raw, path) for path in coco_files(raw, pattern))
    return pl.concat([frame_of_rows(Annotations(raw, file, plan).rows(), plan) for file in files])


class Annotations:
    """The annotations of one file as rows.

    Everything is accounted for; anything that is not a row is rejected with a reason. A data set with additional
    annotation fields overrides `row` and extends its result.
    """

    def __init__(self, raw: RawFolder, file: CocoFile, plan: Plan) -> None:
        self.raw, self.file, self.plan = raw, file, plan
        self.split = split_named(file.name) or "train"
        self.paths = {number: clean_path(str(entry.get("file_name", ""))) for number, entry in file.images.items()}
        self.prefix = image_prefix(raw, file.path, list(self.paths.values()))
        self.every_attribute = list(range(len(plan.attributes or ())))
        with open_regular(file.path) as content:
            self.head = content.read(MAX_RAW)

    def rows(self) -> list[Entry]:
        """Return one row per annotation; crowds are left out, and images without annotations are counted."""
        raw, name = self.raw, self.file.name
        raw.count_documents(document_pattern(name), len(self.file.annotations))
        found: list[Entry] = []
        crowds = 0
        for number, entry in enumerate(self.file.annotations, start=1):
            if entry.get("iscrowd") == 1:
                raw.account(name, "left_out")
                crowds += 1
            else:
                found += self.kept(number, self.row(number, entry))
        if crowds:
            raw.notes.append(
                f"{name}: {count(crowds, 'annotation')} of a crowd (iscrowd 1) left out: not a single garment"
            )
        seen = {str(entry.get("image_id")) for entry in self.file.annotations}
        for number in sorted(set(self.file.images) - seen):
            raw.warn("no_garment", f"{name}: image {number}")
        return found

    def kept(self, number: int, row: Entry | Problem) -> list[Entry]:
        """Return the row of annotation `number` (1-based) in a list; a problem is rejected and returns an empty list."""
        if not isinstance(row, Problem):
            return [row]
        line, location = RawLine(self.file.name, number, 0, self.head), RawLine(self.file.name, 1, 0, self.head)
        self.raw.reject(line, *row.within(f"annotation {number}"), location=location)
        return []

    def row(self, number: int, entry: Entry) -> Entry | Problem:
        """Return the columns of annotation `number`, or the first problem in it."""
        row = self.head_of(entry, number)
        if isinstance(row, Problem):
            return row
        category = self.file.category_name(entry)
        if category is None:
            found = str(entry.get("category_id"))[:40]
            message = f"category_id is {found}, but no category has this id and a name"
            return Problem("unknown_category", message, "category", found)
        row["category"] = plain(category)
        if self.plan.categories is not None and row["category"] not in self.plan.categories.ids:
            message = f"the category {category[:60]!r} is not one of {self.plan.categories.name}"
            return Problem("unknown_category", message, "category", category[:60])
        adds = (self.add_polygons, self.add_box, self.add_keypoints, self.add_attributes)
        return next((problem for add in adds if (problem := add(row, entry)) is not None), row)

    def head_of(self, entry: Entry, number: int) -> Entry | Problem:
        """Return the columns that every row has."""
        image_id = str(entry.get("image_id"))
        image = self.file.images.get(image_id)
        if image is None:
            return Problem("unknown_image", f"image_id is {image_id[:40]}, but no image has this id", "image", image_id)
        if image_id in self.file.ambiguous:
            return Problem("ambiguous_image", f"several images have the id {image_id[:40]}", "image", image_id)
        path = self.paths[image_id]
        problem = image_path_problem(path)
        if problem is not None:
            return Problem(*problem, "image", path)
        width, height = stated_size(image)
        return {
            "key": safe_key(f"{self.split}-{Path(path).stem}-{number}"), "image": self.prefix + path,
            "width": width, "height": height, "split": self.split, "group": None, "source_file": self.file.name, "source_line": number,
        }  # fmt: skip

    def add_polygons(self, row: Entry, entry: Entry) -> Problem | None:
        """Add `polygons`; run-length encoded masks yield none, with a warning."""
        outlines: object = entry.get("segmentation")
        row["polygons"] = list[list[float]]()
        if isinstance(outlines, dict):
            self.raw.warn("encoded_outline", f"{self.file.name}: annotation {entry.get('id')}")
        if not isinstance(outlines, list):
            return None
        polygons = polygons_of(cast("list[object]", outlines))
        if isinstance(polygons, Problem):
            return polygons
        shift = 0.5 if self.plan.pixels else 0.0
        row["polygons"] = [[value - shift for value in outline] for outline in polygons]
        return None

    def add_box(self, row: Entry, entry: Entry) -> Problem | None:
        """Add `box`, by default the bounding box of the outline; call after `add_polygons`."""
        values = numbers_of(entry.get("bbox", []), "bbox")
        if isinstance(values, Problem) or len(values) not in (0, 4):
            found = str(entry.get("bbox"))[:100]
            return Problem("bad_number", f"bbox is {found}, expected four numbers", "box", found)
        row["box"] = row[BOX_TEXT] = None
        if values:
            row["box"] = corners_of([float(value) for value in values], self.plan.form, pixels=self.plan.pixels)
            row[BOX_TEXT] = " ".join(f"{value:g}" for value in values)
        elif points := [value for outline in row["polygons"] for value in outline]:
            xs, ys, shift = points[0::2], points[1::2], 0.5 if self.plan.pixels else 0.0
            row["box"] = [min(xs) + shift, min(ys) + shift, max(xs) - shift, max(ys) - shift]
            self.raw.warn("box_from_outline", f"{self.file.name}: annotation {entry.get('id')}")
        return None

    def add_keypoints(self, row: Entry, entry: Entry) -> Problem | None:
        """Add the landmark columns, if the plan has a landmark set and the category has keypoints of it."""
        landmarks = self.plan.landmarks
        known = self.plan.garments.get(self.file.category_name(entry) or "")
        if landmarks is None or known is None:
            return None
        garment, indices = known
        valid = set(landmarks.garments[garment])
        x, y = [0.0] * len(landmarks), [0.0] * len(landmarks)
        visibility = [
            (Visibility.ABSENT if index in valid else Visibility.NOT_APPLICABLE).value
            for index in range(len(landmarks))
        ]
        row |= {"garment": garment, "landmark_x": x, "landmark_y": y, "landmark_visibility": visibility}
        values = numbers_of(entry.get("keypoints") or [], "keypoints")
        if isinstance(values, Problem) or len(values) not in (0, 3 * len(indices)):
            found = "not a list of" if isinstance(values, Problem) else len(values)
            message = f"keypoints has {found} numbers, expected {3 * len(indices)}"
            return Problem("wrong_number_of_points", message, "landmark_x", str(found))
        for number, index in enumerate(indices if values else ()):
            (px, py, code), name = values[3 * number : 3 * number + 3], landmarks.names[index]
            if code not in (0, 1, 2):
                message = f"the visibility of {name} is {code:g}, expected 2 (visible), 1 (occluded) or 0"
                return Problem("bad_visibility", message, "landmark_visibility", f"{code:g}")
            if code and index not in valid:
                message = f"{name} is annotated, but the garment {garment} has no such point"
                return Problem("not_applicable_point", message, "landmark_x", f"{px:g}_{py:g}")
            if code:
                x[index], y[index], visibility[index] = float(px), float(py), int(code)
        return None

    def add_attributes(self, row: Entry, entry: Entry) -> Problem | None:
        """Add attributes: unlisted ones are absent, or unknown if the annotation lists none."""
        known = self.plan.attributes
        if known is None:
            return None
        ids: object = entry.get("attribute_ids") or []
        numbers = cast("list[object]", ids) if isinstance(ids, list) else [None]
        entries = [self.file.attributes.get(str(number)) for number in numbers]
        if None in entries:
            message = f"attribute_ids is {str(ids)[:80]}, and not all attributes have an entry"
            return Problem("unknown_attribute", message, "attributes")
        names = {plain(str(entry.get("name", ""))) for entry in entries if entry}
        if unknown := sorted(names - known.ids.keys()):
            message = f"the attribute {unknown[0][:60]!r} is not one of {known.name}"
            return Problem("unknown_attribute", message, "attributes", unknown[0][:60])
        positive = sorted(known.ids[name] for name in names)
        row["attributes_positive"] = positive
        row["attributes_unknown"] = [] if positive else self.every_attribute
        return None


def frame_of_rows(rows: Sequence[Entry], plan: Plan) -> pl.DataFrame:
    """Return the rows as a frame with the columns of the plan, and the box as written."""
    groups = [name for group in plan.groups for name in COLUMN_GROUPS[group]]
    columns = {name: [row[name] for row in rows] for name in (*_BASE, *groups)}
    texts = pl.Series([row.get(BOX_TEXT) for row in rows], dtype=pl.String)
    return frame_of(plan.table, {**columns, BOX_TEXT: texts})


def stated_size(image: Entry) -> tuple[int | None, int | None]:
    """Return the stated width and height of an image entry, or None, None."""
    width, height = image.get("width"), image.get("height")
    if type(width) is int and type(height) is int and min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE:
        return width, height
    return None, None
