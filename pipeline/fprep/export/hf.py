"""A folder for the Hugging Face Hub: images with `metadata.jsonl` per split (imagefolder), and README.md, the card.

Where the license of the images does not let anybody pass them on, only what we know of them is written, as
`data/<split>.jsonl`: `source_image` says which image is meant.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from fprep.export.job import ExportJob, image_suffix, may_be_published
from fschemas.names import output_name
from fschemas.publish import publish_bytes

_MOST_FILES = 5000  # in a folder: the Hub refuses more than 10,000
_KNOWN = ("key", "width", "height", "group", "sha256")
_TASKS = {
    "landmarks": "keypoint-detection", "box": "object-detection", "garments": "object-detection", "category": "image-classification",
    "attributes": "image-classification", "style": "image-classification", "item": "image-feature-extraction",
}  # fmt: skip
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)

_CONVENTIONS = (
    "Coordinates are pixels of the upright image; the center of the top left pixel is (0, 0). A box is x1, y1, x2, y2, its "
    "corner pixels included. Ids of attributes are places in the vocabulary below, from 0."
)
_TYPES: dict[Any, str] = {pl.Boolean: "bool", pl.Float32: "float64", pl.Float64: "float64"}
_TEXT = (pl.String, pl.Enum, pl.Categorical)


def write(job: ExportJob, folder: Path) -> None:
    """Write metadata, images where they may be passed on, and the card."""
    with_images = job.options.include_images or may_be_published(job.metadata)
    if not with_images:
        job.notes.append(
            "only metadata: the license of the images does not say that they may be passed on "
            f"({job.metadata.get('license') or 'none is stated'}); with the right to, add --include-images"
        )
    (folder / "data").mkdir()
    for split in job.splits:
        place = folder / "data" / (f"{split}/metadata.jsonl" if with_images else f"{split}.jsonl")
        place.parent.mkdir(exist_ok=True)
        with open(place, "w", encoding="utf-8") as file:
            for number, rows in enumerate(job.images(split)):
                name = _place_image(job, folder, split, number, rows[0]) if with_images else ""
                for row in rows:
                    head = {"file_name": name} if name else {}
                    json.dump(
                        head | _record(job, row), file, ensure_ascii=False, separators=(",", ":"), allow_nan=False
                    )
                    file.write("\n")
                job.count("images" if with_images else "images named")
    publish_bytes(folder / "README.md", _card(job, with_images=with_images).encode())


def _place_image(job: ExportJob, folder: Path, split: str, number: int, row: dict[str, Any]) -> str:
    many = len(job.splits[split]) > _MOST_FILES
    name = (f"{number // _MOST_FILES:04d}/" if many else "") + output_name(row["key"]) + image_suffix(row)
    job.place_image(row, Path("data", split, name), folder, copy=True)
    return name


def _record(job: ExportJob, row: dict[str, Any]) -> dict[str, Any]:
    known = {"source_image": row["image"], **{name: row[name] for name in _KNOWN}}
    return known | {name: row[name] for name in job.source.annotation_columns}


def _card(job: ExportJob, *, with_images: bool) -> str:
    counts = {split: sum(map(len, images)) for split, images in job.splits.items()}
    total = sum(counts.values())
    paths = {split: f"data/{split}/**" if with_images else f"data/{split}.jsonl" for split in counts}
    tasks = list(dict.fromkeys(_TASKS[group] for group in job.groups if group in _TASKS))
    head = {
        "license": "other",
        "license_name": "see-card",
        "pretty_name": job.name,
        "task_categories": tasks or ["image-feature-extraction"],
        "tags": ["fashion"],
        "size_categories": [next((name for limit, name in _SIZES if total < limit), "n>10M")],
        "configs": [
            {
                "config_name": "default",
                "default": True,
                "data_files": [{"split": split, "path": path} for split, path in paths.items()],
            }
        ],
        "dataset_info": {"config_name": "default", "features": _features(job, with_images=with_images)},
    }
    rows = "\n".join(f"| {split} | {count} |" for split, count in counts.items())
    shown = "Images and labels" if with_images else "Labels without the images, which are not ours to pass on:"
    where = "." if with_images else " `source_image` is the path of an image in the original archive."
    sections = [
        f"# {job.name}\n\n{shown}{where}",
        f"| split | rows |\n|---|---|\n{rows}",
        _CONVENTIONS,
        _landmark_text(job.landmark_set),
        *(_vocabulary_text(column, vocabulary) for column, vocabulary in sorted(job.vocabularies.items())),
        f"## License and citation\n\n{job.metadata.get('license') or 'See the source of the images.'}",
        str(job.metadata.get("paper") or ""),
        f"```bibtex\n{job.metadata['citation']}\n```" if job.metadata.get("citation") else "",
    ]
    body = "\n\n".join(section for section in sections if section)
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n{body}\n"


def _features(job: ExportJob, *, with_images: bool) -> list[dict[str, Any]]:
    """Types of the columns. Without them `datasets` guesses from the first rows, and an empty list becomes a list of nothing."""
    schema = job.source.frame.schema
    listed = [{"name": name, **_feature(schema[name])} for name in (*_KNOWN, *job.source.annotation_columns)]
    head: list[dict[str, Any]] = [{"name": "image", "dtype": "image"}] if with_images else []
    return [*head, {"name": "source_image", "dtype": "string"}, *listed]


def _feature(kind: Any) -> dict[str, Any]:
    if isinstance(kind, pl.List):
        inner = _feature(kind.inner)
        return {"list": inner.get("dtype", inner)}
    return {"dtype": "string" if kind.base_type() in _TEXT else _TYPES.get(kind.base_type(), "int64")}


def _landmark_text(landmark_set: dict[str, Any] | None) -> str:
    if landmark_set is None:
        return ""
    points = ", ".join(f"{number} {name}" for number, name in enumerate(landmark_set["points"]))
    visibility = "`landmark_visibility`: -1 not applicable, 0 absent (x = y = 0), 1 occluded, 2 visible."
    return f"## Landmarks: {landmark_set['name']}\n\n{visibility}\n\n{points}"


def _vocabulary_text(column: str, vocabulary: dict[str, Any]) -> str:
    values = ", ".join(f"{number} {value}" for number, value in enumerate(vocabulary["values"]))
    return f"## Vocabulary of {column}: {vocabulary['name']}\n\n{values}"
