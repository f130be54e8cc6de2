"""Tables from COCO files of other programs, and from those of `fprep export`, which contain all table columns."""

from collections.abc import Sequence
from typing import Any, cast

import polars as pl

from fprep.raw.folder import RawFolder, document_pattern
from fprep.readers.coco.file import CocoFile, Entry
from fprep.readers.coco.guess import make_plan
from fprep.readers.coco.rows import Annotations, Plan, frame_of_rows
from fprep.readers.json_document import Problem
from fprep.readers.own.conventions import plain
from fprep.readers.reader import safe_key
from fschemas.failures import UsageError
from fschemas.landmarks import LANDMARK_SETS
from fschemas.tables import COLUMN_GROUPS, GROUPS
from fschemas.vocabularies import Vocabulary


def read_rows(raw: RawFolder, files: Sequence[CocoFile]) -> pl.DataFrame:
    """Return the rows of all files; entries that are not rows are accounted for in `raw`, with the reason."""
    exported = [file for file in files if file.labels is not None]
    if exported and len(exported) == len(files):
        return _read_exported(raw, exported)
    plan = make_plan(raw, files)
    return frame_of_rows([row for file in files for row in Annotations(raw, file, plan).rows()], plan)


def _read_exported(raw: RawFolder, files: Sequence[CocoFile]) -> pl.DataFrame:
    """Return the rows of a table exported by `fprep export`, equal to the original except for the source columns."""
    labels = files[0].labels
    assert labels is not None
    groups = raw.column_groups = tuple(group for group in labels["column_groups"] if group in GROUPS)
    for column, stored in dict(labels.get("vocabularies") or {}).items():
        members = {group: tuple(ids) for group, ids in dict(stored.get("groups") or {}).items()}
        exclusive = bool(stored.get("exclusive"))
        raw.vocabularies[column] = Vocabulary(stored["name"], tuple(stored["values"]), members, exclusive)
    name = labels.get("landmark_set")
    landmarks = raw.landmark_set = LANDMARK_SETS.get(str(name)) if name else None
    if name and landmarks is None:
        raise UsageError(f"{files[0].name}: the landmark set {name!r} is not known in this version")
    garments = {garment: (garment, tuple(range(len(landmarks)))) for garment in landmarks.garments} if landmarks else {}
    plan = Plan(groups, landmarks=landmarks, garments=garments)
    raw.splits_are_given = True
    raw.box_form = "size"
    return frame_of_rows([row for file in files for row in _ExportedAnnotations(raw, file, plan).rows()], plan)


class _ExportedAnnotations(Annotations):
    """Annotations by row key: an annotation has the labels of its row, an image those of rows without annotation."""

    def rows(self) -> list[Entry]:
        """Return a row per annotation and per row listed by an image; annotations of listed rows are parts of them."""
        raw, file = self.raw, self.file
        entries = [(number, row) for number, image in file.images.items() for row in image.get("rows", [])]
        listed = {str(row.get("key")): (number, row) for number, row in entries}
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
            found += self.kept(number, self._whole(number, entry, _labels(entry)))
        for number, (key, (image_id, labels)) in enumerate(listed.items(), start=len(file.annotations) + 1):
            found += self.kept(number, self._whole(number, {"image_id": image_id}, labels, parts[key]))
        return found

    def _whole(self, number: int, entry: Entry, labels: Entry, parts: Sequence[Entry] = ()) -> Entry | Problem:
        """Return the row of an annotation or listed row; `labels` override values from COCO's own fields."""
        row = self.head_of(entry, number)
        if isinstance(row, Problem):
            return row
        category = self.file.category_name(entry) or ""
        if "category_id" in entry and not category:
            message = f"category_id is {str(entry['category_id'])[:40]}, but no category has it"
            return Problem("unknown_category", message, "category")
        row |= {"category": plain(category)}
        for add in (self.add_polygons, self.add_box, self.add_keypoints):
            problem = add(row, entry)
            if problem is not None:
                return problem
        for column, name in _IDS.items():
            row[column] = [number - 1 for number in entry.get(name, []) if type(number) is int]
        if "garments" in self.plan.groups:
            problem = self._add_garments(row, parts)
            if problem is not None:
                return problem
        row |= {name: value for name, value in labels.items() if name not in ("image", "split", "width", "height")}
        row["key"] = safe_key(str(row["key"]))
        missing = [name for group in self.plan.groups for name in COLUMN_GROUPS[group] if name not in row]
        return Problem("missing_label", f"the labels of this row lack {missing[0]}", missing[0]) if missing else row

    def _add_garments(self, row: Entry, parts: Sequence[Entry]) -> Problem | None:
        row |= {"garments": [], "garment_boxes": [], "garment_polygons": []}
        for part in parts:
            shape: Entry = {}
            problem = self.add_polygons(shape, part) or self.add_box(shape, part)
            if problem is not None:
                return problem
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
