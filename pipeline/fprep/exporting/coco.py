"""COCO: `annotations/<split>.json` with boxes, key points, outlines and attributes (Lin et al., Microsoft COCO, ECCV 2014).

Every category has all points of the landmark set, in its order, and the edges that its garment has. `file_name` is the path below
the raw root. Attributes stand as in Fashionpedia (Jia et al., ECCV 2020): a list of their own, and `attribute_ids` of an
annotation. All ids count from 1. Boxes and outlines count from the corner of the top left pixel, points from its centre.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from fprep.exporting.geometry import Instance, class_names, instances, polygon_area
from fprep.exporting.job import UNLABELLED, ExportJob

# Columns whose values go into "labels" of an annotation, as they are.
_LABELS = (
    "category", "item", "domain", "gender", "pose", "colour", "style", "substyle", "variation", "coarse_split", "group",
)  # fmt: skip
_IDS = {
    "attributes_positive": "attribute_ids",
    "attributes_unknown": "attribute_unknown_ids",
    "attributes_maybe": "attribute_maybe_ids",
}
_FROM = {
    "points": "boxes are drawn around the points, with a tenth of their extent on each side: the table has none",
    "picture": "some boxes are the whole picture: the table has none there",
}


def write(job: ExportJob, folder: Path) -> None:
    """Write one file a split."""
    job.need_sizes()
    names = class_names(job)
    ids = {name: number for number, name in enumerate(names, 1)}
    (folder / "annotations").mkdir()
    origins: set[str] = set()
    for split in job.splits:
        with open(folder / "annotations" / f"{split}.json", "w", encoding="utf-8") as file:
            _write_split(job, split, file, ids, origins)
    job.notes += [_FROM[origin] for origin in sorted(origins) if origin in _FROM]
    turned = int((job.frame["image_orientation"].fill_null(1) > 1).sum())
    if turned:
        job.notes.append(f"{turned} pictures are turned by their EXIF tag: coordinates are those of the upright picture")


def _write_split(job: ExportJob, split: str, file: TextIO, ids: dict[str, int], origins: set[str]) -> None:
    heads = {
        "info": {
            "description": f"{job.name}, split {split}", "citation": str(job.metadata.get("citation") or ""),
            "paper": str(job.metadata.get("paper") or ""), "table_sha256": job.source.sha256,
        },
        "licenses": [{"id": 1, "name": str(job.metadata.get("licence") or "unknown"), "url": ""}],
        "categories": list(_categories(job, ids)),
        "attributes": list(_attributes(job)),
    }  # fmt: skip
    file.write("{\n")
    file.writelines(f'"{name}": {_json(value)},\n' for name, value in heads.items())
    _write_list(file, "images", _images(job, split))
    file.write(",\n")
    _write_list(file, "annotations", _annotations(job, split, ids, origins))
    file.write("\n}\n")


def _write_list(file: TextIO, name: str, items: Iterable[str]) -> None:
    file.write(f'"{name}": [')
    for number, item in enumerate(items):
        file.write(",\n" if number else "\n")
        file.write(item)
    file.write("\n]")


def _images(job: ExportJob, split: str) -> Iterator[str]:
    firsts = job.source.frame[[numbers[0] for numbers in job.splits[split]]]
    for image_id, row in enumerate(firsts.select("image", "width", "height", "key").iter_rows(), 1):
        image, width, height, key = row
        job.count("pictures")
        yield _json({"id": image_id, "file_name": image, "width": width, "height": height, "license": 1, "key": key})


def _annotations(job: ExportJob, split: str, ids: dict[str, int], origins: set[str]) -> Iterator[str]:
    number = 0
    for image_id, rows in enumerate(job.pictures(split), 1):
        found = [instance for row in rows for instance in instances(row)]
        if not found and split != UNLABELLED:
            job.count("pictures without a labelled garment")
        for instance in found:
            number += 1
            origins.add(instance.box_from)
            yield _json(_annotation(instance, number, image_id, ids))
    job.count("annotations", number)


def _annotation(instance: Instance, number: int, image_id: int, ids: dict[str, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = instance.box
    width, height = round(x2 - x1, 4), round(y2 - y1, 4)
    row = instance.row
    segmentation = [_outline(polygon, row["width"], row["height"]) for polygon in instance.polygons]
    area = sum(map(polygon_area, segmentation)) if segmentation else width * height
    value: dict[str, Any] = {
        "id": number, "image_id": image_id, "category_id": ids[instance.label], "bbox": [x1, y1, width, height],
        "area": round(area, 2), "iscrowd": 0, "segmentation": segmentation,
    }  # fmt: skip
    if instance.points:
        value["keypoints"] = [number for point in instance.points for number in point]
        value["num_keypoints"] = sum(v > 0 for _, _, v in instance.points)
    for column, name in _IDS.items():
        if column in row:
            value[name] = [number + 1 for number in row[column]]
    value["labels"] = {name: row[name] for name in _LABELS if name in row and row[name] is not None}
    return value


def _outline(polygon: tuple[float, ...], width: int, height: int) -> list[float]:
    """Pixel centres become pixel corners, inside the picture."""
    sizes = (width, height)
    return [round(min(max(value + 0.5, 0.0), float(sizes[index % 2])), 4) for index, value in enumerate(polygon)]


def _categories(job: ExportJob, ids: dict[str, int]) -> Iterator[dict[str, Any]]:
    points = job.landmark_set
    for name, number in ids.items():
        category: dict[str, Any] = {"id": number, "name": name, "supercategory": "garment"}
        if points is not None:
            valid = set(points["garments"][name])
            edges = [[first + 1, second + 1] for first, second in points["skeleton"] if {first, second} <= valid]
            category |= {"keypoints": list(points["points"]), "skeleton": edges, "valid_keypoints": sorted(valid)}
        yield category


def _attributes(job: ExportJob) -> Iterator[dict[str, Any]]:
    vocabulary = job.vocabularies.get("attributes")
    if vocabulary is None or "attributes" not in job.groups:
        return
    groups = {member: group for group, members in vocabulary["groups"].items() for member in members}
    for number, value in enumerate(vocabulary["values"]):
        yield {"id": number + 1, "name": value, "supercategory": groups.get(number, "")}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
