"""Croissant 1.0 (Akhtar et al., 2024): `croissant.json` and the rows it describes.

`table.parquet` holds the rows. Images are not included, but described by their digest and their path in the original
archive. Splits, landmarks and vocabularies are separate record sets. Croissant 1.0 cannot describe columns of nested
lists, which are in the Parquet file only.
"""

import re
from pathlib import Path
from typing import Any

import polars as pl

from fprep.convert.report import plain_arrow
from fprep.export.job import ExportJob
from fschemas.publish import publish_json, sha256_of
from fschemas.table_file import write_table

TABLE = "table.parquet"
_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "equivalentProperty": "cr:equivalentProperty", "samplingRate": "cr:samplingRate",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet",
    "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
_TYPES: dict[Any, str] = {
    pl.String: "sc:Text",
    pl.Float32: "sc:Float",
    pl.Float64: "sc:Float",
    pl.Boolean: "sc:Boolean",
}
_HOMES = (
    ("deepfashion2", "https://github.com/switchablenorms/DeepFashion2"),
    ("deepfashion", "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html"),
    ("fashionai-keypoints", "https://tianchi.aliyun.com/competition/entrance/231648/information"),
    ("fashionai-attributes", "https://tianchi.aliyun.com/competition/entrance/231649/information"),
    ("kfashion", "https://www.aihub.or.kr/"),
)
_DESCRIPTIONS = {
    "key": "Unique name of the row.", "image": "Path of the image in the original archive.", "split": "Split of the row.",
    "width": "Pixels, as the image is displayed.", "height": "Pixels, as the image is displayed.",
    "group": "Rows of a group belong to one split.", "sha256": "SHA-256 of the bytes of the image.",
    "box": "x1, y1, x2, y2: centers of the corner pixels, inclusive; the center of the top left pixel is (0, 0).",
    "landmark_x": "Pixels; the center of the left column is 0.", "landmark_y": "Pixels; the center of the top row is 0.",
    "landmark_visibility": "-1 not applicable, 0 absent, 1 occluded, 2 visible.",
    "attributes_positive": "Ids of the vocabulary of attributes.", "attributes_unknown": "Ids that the source does not label.",
}  # fmt: skip


def write(job: ExportJob, folder: Path) -> None:
    """Write the rows as Parquet and their description."""
    metadata = {name: value for name, value in job.metadata.items() if name != "raw_root"}
    write_table(folder / TABLE, plain_arrow(job.frame), metadata)
    fields, left_out = _fields(job)
    if left_out:
        what = f"{', '.join(left_out)}: nested lists, only in {TABLE}"
        job.notes.append(f"{what}, because Croissant 1.0 cannot describe them")
    for _ in range(sum(map(len, job.splits.values()))):
        job.progress()
    job.count("rows", len(job.numbers))
    job.count("fields", len(fields))
    records = [{
        "@type": "cr:RecordSet", "@id": "rows", "name": "rows", "description": "One row per labeled image or garment.",
        "key": {"@id": "rows/key"}, "field": fields,
    }]  # fmt: skip
    head = _head(job, sha256_of(folder / TABLE))
    publish_json(folder / "croissant.json", head | {"recordSet": records + _side_sets(job)})


def _head(job: ExportJob, digest: str) -> dict[str, Any]:
    citation = str(job.metadata.get("citation") or "")
    year = re.search(r"year\s*=\s*\{?(\d{4})", citation)
    authors = re.search(r"author\s*=\s*\{+([^{}]*)\}", citation)
    home = next((url for prefix, url in _HOMES if job.name.startswith(prefix)), "")
    people = [
        {"@type": "sc:Person", "name": " ".join(reversed(name.strip().split(", ")))}
        for name in (authors[1] if authors else "").split(" and ") if name.strip()
    ]  # fmt: skip
    rows = ", ".join(f"{sum(map(len, images))} {split}" for split, images in job.splits.items())
    optional = {
        "url": home, "creator": people, "datePublished": year[1] if year else "", "citeAs": citation,
    }  # fmt: skip
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": job.name,
        "description": f"Labels of {job.name} as one validated table: {rows}. {job.metadata.get('paper') or ''}".strip(),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": str(job.metadata.get("license") or "unknown"),
        "version": "1.0.0",
        **{name: value for name, value in optional.items() if value},
        "distribution": [
            {
                "@type": "cr:FileObject", "@id": TABLE, "name": TABLE, "contentUrl": TABLE, "sha256": digest,
                "encodingFormat": "application/x-parquet", "description": "All rows, with every column.",
            }
        ],
    }  # fmt: skip


def _fields(job: ExportJob) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a field per column of the table, and the columns that Croissant cannot describe."""
    fields: list[dict[str, Any]] = []
    left_out: list[str] = []
    for name, kind in job.frame.schema.items():
        inner = kind.inner if isinstance(kind, pl.List) else kind
        if isinstance(inner, pl.List):
            left_out.append(name)
            continue
        field: dict[str, Any] = {
            "@type": "cr:Field", "@id": f"rows/{name}", "name": name, "description": _DESCRIPTIONS.get(name, f"Column {name}."),
            "dataType": _TYPES.get(inner.base_type(), "sc:Integer"),
            "source": {"fileObject": {"@id": TABLE}, "extract": {"column": name}},
        }  # fmt: skip
        if isinstance(kind, pl.List):
            field["repeated"] = True
        if isinstance(inner, pl.Enum | pl.Categorical):
            field["dataType"] = "sc:Text"
        if name == "split":
            field["references"] = {"field": {"@id": "splits/name"}}
        fields.append(field)
    return fields, left_out


def _side_sets(job: ExportJob) -> list[dict[str, Any]]:
    """Return the record sets of splits, landmarks and vocabularies with inline data."""
    roles = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit"}
    splits = [{"name": split, "url": roles.get(split, "cr:TestSplit")} for split in job.splits]
    sets = [_inline("splits", "cr:Split", {"name": "sc:Text", "url": "sc:URL"}, splits)]
    if job.landmark_set is not None:
        columns = {"number": "sc:Integer", "name": "sc:Text", "partner": "sc:Integer"}
        pairs = enumerate(zip(job.landmark_set["points"], job.landmark_set["partners"], strict=True))
        points = [{"number": number, "name": name, "partner": partner} for number, (name, partner) in pairs]
        sets.append(_inline("landmarks", "sc:Enumeration", columns, points))
    for column, vocabulary in sorted(job.vocabularies.items()):
        groups = {member: group for group, members in vocabulary["groups"].items() for member in members}
        values = enumerate(vocabulary["values"])
        entries = [{"number": number, "name": value, "group": groups.get(number, "")} for number, value in values]
        columns = {"number": "sc:Integer", "name": "sc:Text", "group": "sc:Text"}
        sets.append(_inline(f"vocabulary_{column}", "sc:Enumeration", columns, entries))
    return sets


def _inline(name: str, kind: str, columns: dict[str, str], entries: list[dict[str, Any]]) -> dict[str, Any]:
    fields = [
        {"@type": "cr:Field", "@id": f"{name}/{column}", "name": column, "dataType": data_type}
        for column, data_type in columns.items()
    ]
    return {
        "@type": "cr:RecordSet", "@id": name, "name": name, "dataType": kind, "key": {"@id": f"{name}/{next(iter(columns))}"},
        "field": fields,
        "data": [{f"{name}/{column}": value for column, value in entry.items()} for entry in entries],
    }  # fmt: skip
