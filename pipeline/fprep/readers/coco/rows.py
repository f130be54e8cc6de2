"""Annotations of COCO files to rows of a table: a row a garment, with the column groups that the files have.

Boxes and outlines of COCO count from the corner of the top left pixel, points from its center: a box of x, y, width, height has its
last pixel at x + width - 1, and half a pixel is taken from outlines (as the masks of pycocotools have them).
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import polars as pl

from fprep.raw.folder import MAX_RAW, RawFolder, RawLine, document_pattern
from fprep.raw.image_names import clean_path, image_path_fault
from fprep.readers.coco.file import CocoFile, Entry, image_prefix, split_named
from fprep.readers.coco.plan import Plan
from fprep.readers.json_document import Fault
from fprep.readers.own.conventions import plain
from fprep.readers.reader import BOX_TEXT, safe_key
from fprep.readers.units import corners_of
from fschemas.image_limits import MAX_SIDE, MIN_SIDE
from fschemas.landmarks import Visibility
from fschemas.regular_file import open_regular
from fschemas.tables import COLUMN_GROUPS, GROUPS, SampleTable
from fschemas.wording import count

_LIMIT = 100_000  # pixels; a number beyond is a fault and not a place
_Number = int | float


class Reading:
    """One file: its rows, and what is entered into the books."""

    def __init__(self, raw: RawFolder, file: CocoFile, plan: Plan) -> None:
        self.raw, self.file, self.plan = raw, file, plan
        self.split = split_named(file.name) or "train"
        self.paths = {number: _path(entry) for number, entry in file.images.items()}
        self.prefix = image_prefix(raw, file.path, list(self.paths.values()))
        with open_regular(file.path) as content:
            self.head = content.read(MAX_RAW)

    def rows(self) -> list[Entry]:
        """Rows of the annotations; an image without any is counted."""
        raw, name = self.raw, self.file.name
        raw.count_documents(document_pattern(name), len(self.file.annotations))
        found: list[Entry] = []
        crowds = 0
        for number, entry in enumerate(self.file.annotations, start=1):
            if entry.get("iscrowd") == 1:
                raw.account(name, "left_out")
                crowds += 1
                continue
            row = self._row(number, entry)
            if isinstance(row, Fault):
                self.refuse(number, row)
            else:
                found.append(row)
        if crowds:
            raw.notes.append(
                f"{name}: {count(crowds, 'annotation')} of a crowd (iscrowd 1) left out: no single garment"
            )
        seen = {str(entry.get("image_id")) for entry in self.file.annotations}
        for number in sorted(set(self.file.images) - seen):
            raw.warn("no_garment", f"{name}: image {number}")
        return found

    def refuse(self, number: int, fault: Fault) -> None:
        """Reject an annotation."""
        row, place = RawLine(self.file.name, number, 0, self.head), RawLine(self.file.name, 1, 0, self.head)
        message = f"annotation {number}: {fault.message}"
        self.raw.reject(row, fault.rule, message, place=place, column=fault.column, found=fault.found)

    def head_of(self, entry: Entry, number: int) -> Entry | Fault:
        """The columns that every row has."""
        image_id = str(entry.get("image_id"))
        image = self.file.images.get(image_id)
        if image is None:
            return Fault("unknown_image", f"image_id is {image_id[:40]}, but no image has this id", "image", image_id)
        if image_id in self.file.ambiguous:
            return Fault("ambiguous_image", f"several images have the id {image_id[:40]}", "image", image_id)
        path = self.paths[image_id]
        fault = image_path_fault(path)
        if fault is not None:
            return Fault(*fault, "image", path)
        width, height = stated_size(image)
        return {
            "key": safe_key(f"{self.split}-{Path(path).stem}-{number}"), "image": self.prefix + path,
            "width": width, "height": height, "split": self.split, "group": None, "source_file": self.file.name, "source_line": number,
        }  # fmt: skip

    def _row(self, number: int, entry: Entry) -> Entry | Fault:
        row = self.head_of(entry, number)
        if isinstance(row, Fault):
            return row
        category = self.file.category_name(entry)
        if category is None:
            found = str(entry.get("category_id"))[:40]
            return Fault(
                "unknown_category", f"category_id is {found}, but no category has this id and a name", "category", found
            )
        row["category"] = plain(category)
        for add in (self._add_polygons, self._add_box, self._add_points, self._add_attributes):
            fault = add(row, entry, category)
            if fault is not None:
                return fault
        return row

    def _add_polygons(self, row: Entry, entry: Entry, _: str) -> Fault | None:
        outlines: object = entry.get("segmentation")
        row["polygons"] = polygons = list[list[float]]()
        if isinstance(outlines, dict):
            self.raw.warn("encoded_outline", f"{self.file.name}: annotation {entry.get('id')}")
            return None
        for outline in cast("list[object]", outlines) if isinstance(outlines, list) else ():
            values = numbers_of(outline)
            if values is None or len(values) % 2:
                return Fault(
                    "bad_polygon", "segmentation holds an outline that is no list of pairs of numbers", "polygons"
                )
            shift = 0.5 if self.plan.pixels else 0.0
            polygons.append([value - shift for value in values])
        return None

    def _add_box(self, row: Entry, entry: Entry, _: str) -> Fault | None:
        values = numbers_of(entry.get("bbox", []))
        if values is None or len(values) not in (0, 4):
            found = str(entry.get("bbox"))[:100]
            return Fault("bad_number", f"bbox is {found}, expected four numbers", "box", found)
        row["box"] = row[BOX_TEXT] = None
        if values:
            row["box"] = corners_of(values, self.plan.form, pixels=self.plan.pixels)
            row[BOX_TEXT] = " ".join(f"{value:g}" for value in values)
        elif row["polygons"] and (points := [value for outline in row["polygons"] for value in outline]):
            xs, ys, shift = points[0::2], points[1::2], 0.5 if self.plan.pixels else 0.0
            row["box"] = [min(xs) + shift, min(ys) + shift, max(xs) - shift, max(ys) - shift]
            self.raw.warn("box_from_outline", f"{self.file.name}: annotation {entry.get('id')}")
        return None

    def _add_points(self, row: Entry, entry: Entry, category: str) -> Fault | None:
        landmarks = self.plan.landmarks
        if landmarks is None:
            return None
        garment, places = self.plan.garments[category]
        valid = set(landmarks.garments[garment])
        x, y = [0.0] * len(landmarks), [0.0] * len(landmarks)
        visibility = [
            (Visibility.ABSENT if index in valid else Visibility.NOT_APPLICABLE).value
            for index in range(len(landmarks))
        ]
        row |= {"garment": garment, "landmark_x": x, "landmark_y": y, "landmark_visibility": visibility}
        values = numbers_of(entry.get("keypoints") or [])
        if values is None or len(values) not in (0, 3 * len(places)):
            found = len(values) if values is not None else "no list of"
            message = f"keypoints has {found} numbers, expected {3 * len(places)}"
            return Fault("wrong_number_of_points", message, "landmark_x", str(found))
        for number, place in enumerate(places if values else ()):
            px, py, code = values[3 * number : 3 * number + 3]
            if code not in (0, 1, 2):
                message = (
                    f"the visibility of {landmarks.points[place]} is {code:g}, expected 2 (visible), 1 (occluded) or 0"
                )
                return Fault("bad_visibility", message, "landmark_visibility", f"{code:g}")
            if code and place not in valid:
                message = f"{landmarks.points[place]} is annotated, but the garment {garment} has no such point"
                return Fault("not_applicable_point", message, "landmark_x", f"{px:g}_{py:g}")
            if code:
                x[place], y[place], visibility[place] = px, py, int(code)
        return None

    def _add_attributes(self, row: Entry, entry: Entry, _: str) -> Fault | None:
        """What an annotation with attributes does not name is absent; where it names none, nobody looked."""
        known = self.plan.attributes
        if known is None:
            return None
        ids: object = entry.get("attribute_ids") or []
        entries = (
            [self.file.attributes.get(str(number)) for number in cast("list[object]", ids)]
            if isinstance(ids, list)
            else [None]
        )
        if None in entries:
            return Fault(
                "unknown_attribute",
                f"attribute_ids is {str(ids)[:80]}, and not all attributes have an entry",
                "attributes",
            )
        positive = sorted({known.ids[plain(str(entry["name"]))] for entry in entries if entry})
        row["attributes_positive"] = positive
        row["attributes_unknown"] = [] if positive else list(range(len(known)))
        return None


def frame_of(rows: list[Entry], plan: Plan) -> pl.DataFrame:
    """The rows as a frame with the columns of the plan."""
    columns = [name for group in plan.groups for name in COLUMN_GROUPS[group]]
    kinds = {name: column.dtype for group in plan.groups for name, column in GROUPS[group].columns().items()}
    base = ("key", "image", "width", "height", "split", "group", "source_file", "source_line")
    schema = {name: SampleTable.columns()[name].dtype for name in base} | {name: kinds[name] for name in columns}
    values = {name: [row[name] for row in rows] for name in schema}
    frame = pl.DataFrame({name: pl.Series(name, values[name], kind) for name, kind in schema.items()})
    return frame.with_columns(pl.Series(BOX_TEXT, [row.get(BOX_TEXT) for row in rows], pl.String))


def stated_size(image: Entry) -> tuple[int | None, int | None]:
    """Width and height that the entry of an image states; None, None where it states none."""
    width, height = image.get("width"), image.get("height")
    if type(width) is int and type(height) is int and min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE:
        return width, height
    return None, None


def _path(image: Entry) -> str:
    return clean_path(str(image.get("file_name", "")))


def numbers_of(value: object) -> list[float] | None:
    """A list of numbers that can be places; None for anything else."""
    if not isinstance(value, list):
        return None
    numbers = cast("list[_Number]", value)
    if not set(map(type, numbers)) <= {int, float} or any(not -_LIMIT < number < _LIMIT for number in numbers):
        return None
    return [float(number) for number in numbers]
