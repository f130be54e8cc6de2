"""Annotations of COCO files to rows of a table: a row a garment, with the column groups that the files have.

Boxes and outlines of COCO count from the corner of the top left pixel, points from its center: a box of x, y, width, height has its
last pixel at x + width - 1, and half a pixel is taken from outlines (as the masks of pycocotools have them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import polars as pl

from fprep.image_names import clean_path, picture_path_fault
from fprep.parsing.coco_file import CocoFile, Entry, image_prefix, split_named
from fprep.parsing.deepfashion2_items import Fault, spelled
from fprep.parsing.own_pictures import plain
from fprep.raw import MAX_RAW, RawFolder, RawLine, document_pattern
from fprep.reader import BOX_TEXT, safe_key
from fprep.units import corners_of
from fschemas.failures import UsageError, count_of
from fschemas.landmarks import LANDMARK_SETS, LandmarkSet, Visibility
from fschemas.regular_file import open_regular
from fschemas.tables import COLUMN_GROUPS, GROUPS, SampleTable
from fschemas.vocabularies import Vocabulary, vocabulary, vocabulary_names

_LIMIT = 100_000  # pixels; a number beyond is a fault and not a place
_Number = int | float


@dataclass(frozen=True)
class Plan:
    """What the rows will have. `garments` gives, by category name, the garment of the landmark set and the places of its points."""

    groups: tuple[str, ...]
    form: str
    pixels: bool
    landmarks: LandmarkSet | None = None
    garments: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict[str, tuple[str, tuple[int, ...]]])
    attributes: Vocabulary | None = None


def read_rows(raw: RawFolder, files: Sequence[CocoFile]) -> pl.DataFrame:
    """The rows of all files; what is no row is entered into the books of `raw`, with its reason."""
    ours = [file for file in files if file.labels is not None]
    if ours and len(ours) == len(files):
        return _read_ours(raw, ours)
    plan = _plan(raw, files)
    rows: list[Entry] = []
    for file in files:
        rows += _Reading(raw, file, plan).rows()
    return _frame(rows, plan)


def _plan(raw: RawFolder, files: Sequence[CocoFile]) -> Plan:
    """The column groups and vocabularies of all files together; enters the vocabularies."""
    annotations = [entry for file in files for entry in file.annotations]
    names = list(dict.fromkeys(plain(str(entry.get("name", ""))) for file in files for entry in file.categories.values()))
    raw.vocabularies["category"] = _known("category", tuple(name for name in names if name), {})
    groups = ["category", "box"]
    if any(isinstance(entry.get("segmentation"), list) and entry["segmentation"] for entry in annotations):
        groups.append("polygons")
    attributes = None
    if any(file.attributes for file in files) and any("attribute_ids" in entry for entry in annotations):
        attributes = raw.vocabularies["attributes"] = _attributes(files)
        groups.append("attributes")
    landmarks, garments = None, dict[str, tuple[str, tuple[int, ...]]]()
    if any(entry.get("keypoints") for entry in annotations):
        used = {file.category_name(entry) or "" for file in files for entry in file.annotations} - {""}
        landmarks, garments = _match_points(files, used)
        if landmarks is None:
            known = ", ".join(LANDMARK_SETS)
            raw.notes.append(f"keypoints are left out: the categories do not name the points of a known landmark set ({known})")
        else:
            groups.append("landmarks")
            raw.landmark_set = landmarks
    form = raw.mapping.get("box-form", "size")
    raw.box_form = form
    return Plan(tuple(groups), form, raw.mapping.get("unit", "pixel") == "pixel", landmarks, garments, attributes)


def _known(kind: str, values: tuple[str, ...], groups: dict[str, tuple[int, ...]]) -> Vocabulary:
    """The vocabulary of these values in this order that a data set has, else one of its own."""
    for name in vocabulary_names():
        if vocabulary(name).values == values:
            return vocabulary(name)
    return Vocabulary(f"coco-{kind}", values, groups)


def _attributes(files: Sequence[CocoFile]) -> Vocabulary:
    values: dict[str, int] = {}
    groups: dict[str, list[int]] = {}
    for entry in (entry for file in files for entry in file.attributes.values()):
        name, group = plain(str(entry.get("name", ""))), plain(str(entry.get("supercategory") or ""))
        if name not in values:
            values[name] = len(values)
            groups.setdefault(group, []).append(values[name])
    groups.pop("", None)
    return _known("attributes", tuple(values), {group: tuple(members) for group, members in groups.items()})


def _match_points(files: Sequence[CocoFile], used: set[str]) -> tuple[LandmarkSet | None, dict[str, tuple[str, tuple[int, ...]]]]:
    """The landmark set whose points all used categories name, and by category its garment and where the i-th point stands."""
    categories = {plain(str(entry.get("name", ""))): entry for file in files for entry in file.categories.values()}
    for landmarks in LANDMARK_SETS.values():
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name in used:
            match = _match_category(name, categories.get(plain(name), {}), landmarks)
            if match is None:
                break
            found[name] = match
        else:
            if found:
                return landmarks, found
    return None, {}


def _match_category(name: str, category: Entry, landmarks: LandmarkSet) -> tuple[str, tuple[int, ...]] | None:
    points: object = category.get("keypoints")
    if not isinstance(points, list) or not points:
        return None
    numbers = {point.lower(): index for index, point in enumerate(landmarks.points)}
    words = [str(point).strip().lower() for point in cast("list[object]", points)]
    by_name = {spelled(garment): garment for garment in landmarks.garments}
    garment = by_name.get(spelled(name))
    if garment is not None and words == [str(number) for number in range(1, len(landmarks) + 1)]:
        return garment, tuple(range(len(landmarks)))  # numbered, and as many as the garment's set has
    places = tuple(numbers.get(word, -1) for word in words)
    if -1 in places or len(set(places)) < len(places):
        return None
    if garment is None:
        garment = next((known for known, valid in landmarks.garments.items() if set(valid) == set(places)), None)
    return None if garment is None else (garment, places)


class _Reading:
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
            raw.notes.append(f"{name}: {count_of(crowds, 'annotation')} of a crowd (iscrowd 1) left out: no single garment")
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
        fault = picture_path_fault(path)
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
            return Fault("unknown_category", f"category_id is {found}, but no category has this id and a name", "category", found)
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
                return Fault("bad_polygon", "segmentation holds an outline that is no list of pairs of numbers", "polygons")
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
            (Visibility.ABSENT if index in valid else Visibility.NOT_APPLICABLE).value for index in range(len(landmarks))
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
                message = f"the visibility of {landmarks.points[place]} is {code:g}, expected 2 (visible), 1 (occluded) or 0"
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
            [self.file.attributes.get(str(number)) for number in cast("list[object]", ids)] if isinstance(ids, list) else [None]
        )
        if None in entries:
            return Fault(
                "unknown_attribute", f"attribute_ids is {str(ids)[:80]}, and not all attributes have an entry", "attributes"
            )
        positive = sorted({known.ids[plain(str(entry["name"]))] for entry in entries if entry})
        row["attributes_positive"] = positive
        row["attributes_unknown"] = [] if positive else list(range(len(known)))
        return None


def _frame(rows: list[Entry], plan: Plan) -> pl.DataFrame:
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
    if type(width) is int and type(height) is int and min(width, height) >= 8 and max(width, height) <= 16384:
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


def _read_ours(raw: RawFolder, files: Sequence[CocoFile]) -> pl.DataFrame:
    """The rows of a table that `fprep export` wrote, equal to those of the table but for where they come from."""
    labels = files[0].labels
    assert labels is not None
    groups = raw.column_groups = tuple(group for group in labels["column_groups"] if group in GROUPS)
    for column, stored in dict(labels.get("vocabularies") or {}).items():
        members = {group: tuple(ids) for group, ids in dict(stored.get("groups") or {}).items()}
        raw.vocabularies[column] = Vocabulary(stored["name"], tuple(stored["values"]), members, bool(stored.get("exclusive")))
    name = labels.get("landmark_set")
    landmarks = raw.landmark_set = LANDMARK_SETS.get(str(name)) if name else None
    if name and landmarks is None:
        raise UsageError(f"{files[0].name}: the landmark set {name!r} is not known in this version")
    garments = {garment: (garment, tuple(range(len(landmarks)))) for garment in landmarks.garments} if landmarks else {}
    plan = Plan(groups, "size", pixels=True, landmarks=landmarks, garments=garments)
    raw.splits_are_given = True
    raw.box_form = "size"
    rows: list[Entry] = []
    for file in files:
        rows += _OurReading(raw, file, plan).rows()
    return _frame(rows, plan)


class _OurReading(_Reading):
    """Rows by their keys: an annotation has the labels of its row, and an image those of rows without an annotation."""

    def rows(self) -> list[Entry]:
        """A row for every annotation and for every row that an image lists; annotations of listed rows are parts of them."""
        raw, file = self.raw, self.file
        listed = {str(row.get("key")): (number, row) for number, image in file.images.items() for row in image.get("rows", [])}
        parts: dict[str, list[Entry]] = {key: [] for key in listed}
        single: list[tuple[int, Entry]] = []
        for number, entry in enumerate(file.annotations, start=1):
            key = str(_labels(entry).get("key"))
            if key in parts:
                parts[key].append(entry)
            else:
                single.append((number, entry))
        raw.count_documents(document_pattern(file.name), len(single) + len(listed))
        found: list[Entry] = []
        for number, entry in single:
            row = self._whole(number, entry, _labels(entry))
            found += self._kept(number, row)
        for number, (key, (image_id, labels)) in enumerate(listed.items(), start=len(file.annotations) + 1):
            row = self._whole(number, {"image_id": image_id}, labels, parts[key])
            found += self._kept(number, row)
        return found

    def _kept(self, number: int, row: Entry | Fault) -> list[Entry]:
        if isinstance(row, Fault):
            self.refuse(number, row)
            return []
        return [row]

    def _whole(self, number: int, entry: Entry, labels: Entry, parts: Sequence[Entry] = ()) -> Entry | Fault:
        """A row of an annotation or of a listed row; labels go before what is computed from COCO's own fields."""
        row = self.head_of(entry, number)
        if isinstance(row, Fault):
            return row
        category = self.file.category_name(entry) or ""
        if "category_id" in entry and not category:
            return Fault(
                "unknown_category", f"category_id is {str(entry['category_id'])[:40]}, but no category has it", "category"
            )
        row |= {"category": plain(category)}
        adds = [self._add_polygons, self._add_box] + ([self._add_points] if category in self.plan.garments else [])
        for add in adds:
            fault = add(row, entry, category)
            if fault is not None:
                return fault
        for column, name in _IDS.items():
            row[column] = [number - 1 for number in entry.get(name, []) if type(number) is int]
        if "garments" in self.plan.groups:
            fault = self._add_garments(row, parts)
            if fault is not None:
                return fault
        row |= {name: value for name, value in labels.items() if name not in ("image", "split", "width", "height")}
        row["key"] = safe_key(str(row["key"]))
        missing = [name for group in self.plan.groups for name in COLUMN_GROUPS[group] if name not in row]
        return Fault("missing_label", f"the labels of this row lack {missing[0]}", missing[0]) if missing else row

    def _add_garments(self, row: Entry, parts: Sequence[Entry]) -> Fault | None:
        row |= {"garments": [], "garment_boxes": [], "garment_polygons": []}
        for part in parts:
            shape: Entry = {}
            fault = self._add_polygons(shape, part, "") or self._add_box(shape, part, "")
            if fault is not None:
                return fault
            extra = _labels(part)
            outlines = shape["polygons"]
            row["garments"].append(self.file.category_name(part) or "")
            row["garment_boxes"] += extra.get("box", shape["box"]) or [0.0] * 4
            row["garment_polygons"].append(extra.get("polygon", outlines[0] if outlines else []))
        return None


_IDS = {
    "attributes_positive": "attribute_ids", "attributes_unknown": "attribute_unknown_ids", "attributes_maybe": "attribute_maybe_ids",
}  # fmt: skip


def _labels(entry: Entry) -> Entry:
    value: Any = entry.get("labels")
    return cast("Entry", value) if isinstance(value, dict) else {}
