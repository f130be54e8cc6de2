"""Label Studio: `tasks.json` to import and the project's `labeling_config.xml`, to view and correct labels.

Positions are in percent of the image size, with the corner of the top left pixel as origin. Each garment is a
rectangle, the parent of its points and outlines. Visibility is a choice of each point region; image labels are choices
of the task. Image URLs use Label Studio's local files (`LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT` is the raw root).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from fprep.export.geometry import Instance, class_names, instances
from fprep.export.job import UNLABELED, ExportJob, write_list
from fschemas.publish import publish_bytes

LOCAL_FILES = "/data/local-files/?d="
_POINT_SIZE = 0.6  # width of a point, in percent
_CHOICES = ("category", "style", "substyle", "domain", "gender", "pose", "color", "variation")
_MAX_CHOICES = 2000  # the page does not open with more


def write(job: ExportJob, folder: Path) -> None:
    """Write the tasks of all splits and the labeling configuration."""
    job.need_sizes()
    names, choices = class_names(job), _choices(job)
    config = _config(job, names, choices)
    ET.indent(config)
    publish_bytes(folder / "labeling_config.xml", ET.tostring(config, encoding="utf-8") + b"\n")
    with open(folder / "tasks.json", "w", encoding="utf-8") as file:
        write_list(file, _tasks(job, choices))
        file.write("\n")
    root = "local files, document root = the raw root that `fprep convert` read"
    job.notes.append(f"import tasks.json after the storage: {root}")


def _tasks(job: ExportJob, choices: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    kind = "predictions" if job.options.predictions else "annotations"
    number = 0
    for split in job.splits:
        for rows in job.images(split):
            number += 1
            first = rows[0]
            results = [part for row in rows for part in _results(job, row, choices)]
            data = {name: first[name] for name in ("key", "split", "group")}
            task: dict[str, Any] = {"id": number, "data": {"image": LOCAL_FILES + quote(first["image"]), **data}}
            if split != UNLABELED:
                head = {"model_version": job.name} if kind == "predictions" else {"ground_truth": True}
                task[kind] = [{**head, "result": results}]
                job.count("regions", sum("original_width" in part and part["type"] != "choices" for part in results))
            job.count("tasks")
            yield task


def _results(job: ExportJob, row: dict[str, Any], choices: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    if row["split"] == UNLABELED:
        return
    points = job.landmark_set["points"] if job.landmark_set else []
    for number, instance in enumerate(instances(row)):
        yield from _regions(instance, f"{row['key']}-{number}", points)
    for column in choices:
        if column == "attributes":
            values = job.vocabularies["attributes"]["values"]
            chosen = [values[member] for member in row["attributes_positive"]]
        else:
            chosen = [row[column]] if row[column] else []
        if chosen:
            base = {"id": f"{row['key']}-{column}", "from_name": column, "to_name": "image", "type": "choices"}
            yield {**base, "value": {"choices": chosen}}


def _regions(instance: Instance, name: str, points: list[str]) -> Iterator[dict[str, Any]]:
    width, height = instance.row["width"], instance.row["height"]
    frame = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
    x1, y1, x2, y2 = instance.box
    rectangle = {"x": _percent(x1, width), "y": _percent(y1, height)}
    rectangle |= {"width": _percent(x2 - x1, width), "height": _percent(y2 - y1, height), "rotation": 0}
    value = {**rectangle, "rectanglelabels": [instance.label]}
    yield {"id": f"{name}-box", "type": "rectanglelabels", "from_name": "garment", **frame, "value": value}
    for number, polygon in enumerate(instance.polygons):
        corners = zip(polygon[0::2], polygon[1::2], strict=True)
        outline = [[_percent(x + 0.5, width), _percent(y + 0.5, height)] for x, y in corners]
        region = {"id": f"{name}-outline{number}", "parentID": f"{name}-box", "from_name": "outline", **frame}
        value = {"points": outline, "closed": True, "polygonlabels": [instance.label]}
        yield {**region, "type": "polygonlabels", "value": value}
    for number, (x, y, v) in enumerate(instance.keypoints):
        if not v:
            continue
        region = {"id": f"{name}-point{number}", **frame}
        where = {"x": _percent(x + 0.5, width), "y": _percent(y + 0.5, height), "width": _POINT_SIZE}
        label = {**where, "keypointlabels": [points[number]]}
        yield {**region, "parentID": f"{name}-box", "type": "keypointlabels", "from_name": "point", "value": label}
        seen = {**where, "choices": ["visible" if v == 2 else "hidden"]}
        yield {**region, "type": "choices", "from_name": "visibility", "value": seen}


def _percent(value: float, size: int) -> float:
    return round(100 * value / size, 6)


def _choices(job: ExportJob) -> dict[str, list[str]]:
    """Return the possible image labels by column, without columns that have too many values for a page."""
    found: dict[str, list[str]] = {}
    for column in _CHOICES:
        if column not in job.frame.columns:
            continue
        known = job.vocabularies.get(column)
        seen = sorted({str(value) for value in job.frame[column].to_list() if value})
        found[column] = list(known["values"]) if known else seen
    if "attributes" in job.groups and "attributes" in job.vocabularies:
        found["attributes"] = list(job.vocabularies["attributes"]["values"])
    for column in [column for column, values in found.items() if len(values) > _MAX_CHOICES]:
        job.notes.append(f"{column} has {len(found.pop(column))} values, too many to choose from; left out")
    return {column: values for column, values in found.items() if values}


def _config(job: ExportJob, names: tuple[str, ...], choices: dict[str, list[str]]) -> ET.Element:
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image", zoom="true", zoomControl="true")
    _labels(view, "RectangleLabels", "garment", names)
    if "polygons" in job.groups or "garments" in job.groups:
        _labels(view, "PolygonLabels", "outline", names)
    if job.landmark_set is not None:
        _labels(view, "KeyPointLabels", "point", job.landmark_set["points"])
        only = {"perRegion": "true", "whenTagName": "point", "choice": "single"}
        _labels(view, "Choices", "visibility", ("visible", "hidden"), "Choice", **only)
    for column, values in choices.items():
        kind = "multiple" if column == "attributes" else "single-radio"
        ET.SubElement(view, "Header", value=column)
        _labels(view, "Choices", column, values, "Choice", choice=kind, layout="select")
    return view


def _labels(view: ET.Element, tag: str, name: str, values: Any, entry: str = "Label", **attributes: str) -> None:
    control = ET.SubElement(view, tag, {"name": name, "toName": "image", **attributes})
    for value in values:
        ET.SubElement(control, entry, {"value": value})
