"""COCO: `annotations/<split>.json` with boxes, keypoints, outlines and attributes (Lin et al., ECCV 2014).

Every category has all points of the landmark set, in its order, and the edges of its garment. `file_name` is relative
to the raw root. Attributes follow Fashionpedia (Jia et al., ECCV 2020): a separate list, and `attribute_ids` per
annotation. All ids start at 1. Boxes and outlines use the corner of the top left pixel as origin, keypoints its center.

The export is lossless: `fprep convert coco` restores an equal table. `info.table` holds column groups and vocabularies,
`labels` of an annotation the other columns of the row (and its box or outlines if COCO's had to be clipped), and `rows`
of an image its rows without an annotation or with several.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fprep.export.geometry import Instance, class_names, instances, polygon_area
from fprep.export.job import UNLABELED, ExportJob, compact_json, write_list
from fschemas.tables import COLUMN_GROUPS
from fschemas.wording import count

# Column groups with COCO fields of their own; all other columns go unchanged into "labels" of an annotation.
_SHAPES = {"landmarks", "box", "polygons", "garments", "attributes", "maybe"}
_IDS = {
    "attributes_positive": "attribute_ids",
    "attributes_unknown": "attribute_unknown_ids",
    "attributes_maybe": "attribute_maybe_ids",
}
_FROM = {
    "keypoints": "boxes are those of the landmarks plus a tenth of their extent on each side, because the table has none",
    "image": "some boxes are the whole image: the table has none there",
}


def write(job: ExportJob, folder: Path) -> None:
    """Write one file per split."""
    job.need_sizes()
    names = class_names(job)
    ids = {name: number for number, name in enumerate(names, 1)}
    (folder / "annotations").mkdir()
    origins: set[str] = set()
    for split in job.splits:
        with open(folder / "annotations" / f"{split}.json", "w", encoding="utf-8") as file:
            _write_split(job, split, file, ids, origins)
    job.notes += [_FROM[origin] for origin in sorted(origins) if origin in _FROM]
    rotated = int((job.frame["image_orientation"].fill_null(1) > 1).sum())
    if rotated:
        what = count(rotated, "image")
        job.notes.append(f"{what} with an EXIF orientation: coordinates are those of the upright image")


def _write_split(job: ExportJob, split: str, file: TextIO, ids: dict[str, int], origins: set[str]) -> None:
    heads = {
        "info": {
            "description": f"{job.name}, split {split}", "citation": str(job.metadata.get("citation") or ""),
            "paper": str(job.metadata.get("paper") or ""), "table_sha256": job.source.sha256, "table": _table(job),
        },
        "licenses": [{"id": 1, "name": str(job.metadata.get("license") or "unknown"), "url": ""}],
        "categories": list(_categories(job, ids)),
        "attributes": list(_attributes(job)),
    }  # fmt: skip
    file.write("{\n")
    file.writelines(f'"{name}": {compact_json(value)},\n' for name, value in heads.items())
    file.write('"images": ')
    write_list(file, _images(job, split))
    file.write(',\n"annotations": ')
    write_list(file, _annotations(job, split, ids, origins))
    file.write("\n}\n")


def _images(job: ExportJob, split: str) -> Iterator[dict[str, Any]]:
    several = "garments" in job.groups
    columns = [name for group in job.groups for name in COLUMN_GROUPS[group]]
    wanted = ["key", "group", *(name for name in columns if not name.startswith("garment_"))]
    wanted = [name for name in wanted if not (several and name == "garments")]
    for image_id, rows in enumerate(job.images(split, again=True), 1):
        row = rows[0]
        job.count("images")
        value = {"id": image_id, "file_name": row["image"], "width": row["width"], "height": row["height"], "license": 1,
                 "key": row["key"]}  # fmt: skip
        listed = [row for row in rows if several or not instances(row)]
        if listed:
            value["rows"] = [{name: row[name] for name in wanted} for row in listed]
        yield value


def _table(job: ExportJob) -> dict[str, Any]:
    named = str(job.metadata.get("table") or "").split("+")
    groups = named if set(named) == set(job.groups) else list(job.groups)
    landmarks = job.landmark_set
    return {"column_groups": groups, "landmark_set": landmarks and landmarks["name"], "vocabularies": job.vocabularies}


def _annotations(job: ExportJob, split: str, ids: dict[str, int], origins: set[str]) -> Iterator[dict[str, Any]]:
    number = 0
    for image_id, rows in enumerate(job.images(split), 1):
        found = [instance for row in rows for instance in instances(row)]
        if not found and split != UNLABELED:
            job.count("images without a labeled garment")
        for instance in found:
            number += 1
            origins.add(instance.box_from)
            yield _annotation(job, instance, number, image_id, ids)
    job.count("annotations", number)


def _annotation(job: ExportJob, instance: Instance, number: int, image_id: int, ids: dict[str, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = instance.box
    width, height = x2 - x1, y2 - y1
    row = instance.row
    segmentation = [_outline(polygon, row["width"], row["height"]) for polygon in instance.polygons]
    area = sum(map(polygon_area, segmentation)) if segmentation else width * height
    value: dict[str, Any] = {
        "id": number, "image_id": image_id, "category_id": ids[instance.label], "bbox": [x1, y1, width, height],
        "area": round(area, 2), "iscrowd": 0, "segmentation": segmentation,
    }  # fmt: skip
    if instance.keypoints:
        value["keypoints"] = [number for point in instance.keypoints for number in point]
        value["num_keypoints"] = sum(v > 0 for _, _, v in instance.keypoints)
    for column, name in _IDS.items():
        if column in row:
            value[name] = [number + 1 for number in row[column]]
    names = ("key", "group", *(name for group in job.groups if group not in _SHAPES for name in COLUMN_GROUPS[group]))
    value["labels"] = {name: row[name] for name in names if row.get(name) is not None} | _cut(instance, value)
    return value


def _cut(instance: Instance, value: dict[str, Any]) -> dict[str, Any]:
    """Return box and outlines of the row if they cannot be restored from COCO's fields."""
    x, y, width, height = value["bbox"]
    found: dict[str, Any] = {}
    if instance.box_from == "box" and not _same((x, y, x + width - 1, y + height - 1), instance.source_box):
        found["box"] = list(instance.source_box)
    back = [[number - 0.5 for number in outline] for outline in value["segmentation"]]
    if not all(map(_same, back, instance.polygons)) or len(back) < instance.num_outlines:
        if "garments" in instance.row:
            found["polygon"] = list(instance.polygons[0])
        else:
            found["polygons"] = instance.row["polygons"]
    return found


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether values are equal in the float32 precision of a table."""
    return bool((np.array(one, np.float32) == np.array(other, np.float32)).all())


def _outline(polygon: tuple[float, ...], width: int, height: int) -> list[float]:
    """Convert pixel centers to pixel corners, clipped, with four digits where these preserve the float32 of a table."""
    sides = (float(width), float(height))
    exact = [min(max(value + 0.5, 0.0), sides[index % 2]) for index, value in enumerate(polygon)]
    short = np.round(exact, 4)
    is_same = (short - 0.5).astype(np.float32) == (np.array(exact) - 0.5).astype(np.float32)
    return np.where(is_same, short, exact).tolist()


def _categories(job: ExportJob, ids: dict[str, int]) -> Iterator[dict[str, Any]]:
    landmark_set = job.landmark_set
    for name, number in ids.items():
        category: dict[str, Any] = {"id": number, "name": name, "supercategory": "garment"}
        if landmark_set is not None:
            valid = set(landmark_set["garments"][name])
            edges = [[first + 1, second + 1] for first, second in landmark_set["skeleton"] if {first, second} <= valid]
            category |= {"keypoints": list(landmark_set["points"]), "skeleton": edges, "valid_keypoints": sorted(valid)}
        yield category


def _attributes(job: ExportJob) -> Iterator[dict[str, Any]]:
    vocabulary = job.vocabularies.get("attributes")
    if vocabulary is None or "attributes" not in job.groups:
        return
    groups = {member: group for group, members in vocabulary["groups"].items() for member in members}
    for number, value in enumerate(vocabulary["values"]):
        yield {"id": number + 1, "name": value, "supercategory": groups.get(number, "")}
