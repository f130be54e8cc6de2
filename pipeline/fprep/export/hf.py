"""A folder for the Hugging Face Hub (imagefolder): images with `metadata.jsonl` per split, and the dataset card.

If the license does not allow redistribution of the images, only their annotations are written, to `data/<split>.jsonl`,
where `source_image` identifies the image.
"""

from pathlib import Path
from typing import Any

import polars as pl

from fprep.export.job import ExportJob, compact_json, image_suffix, may_be_published
from fprep.shard.card import dataset_card, landmark_text, license_text, vocabulary_text
from fschemas.names import output_name
from fschemas.publish import publish_bytes

_MAX_FILES = 5000  # per folder; the Hub rejects more than 10,000
_KNOWN = ("key", "width", "height", "group", "sha256")
_CONVENTIONS = (
    "Coordinates are pixels of the upright image; the center of the top left pixel is (0, 0). A box is x1, y1, x2, y2, its "
    "corner pixels included. Ids of attributes are indices into the vocabulary below, from 0."
)
_TYPES: dict[Any, str] = {pl.Boolean: "bool", pl.Float32: "float64", pl.Float64: "float64"}
_TEXT = (pl.String, pl.Enum, pl.Categorical)


def write(job: ExportJob, folder: Path) -> None:
    """Write metadata, images that may be redistributed, and the card."""
    with_images = job.options.include_images or may_be_published(job.metadata)
    if not with_images:
        terms = job.metadata.get("license") or "no license given"
        what = f"only metadata: the license of the images does not permit redistribution ({terms})"
        job.notes.append(f"{what}; if you have permission, add --include-images")
    (folder / "data").mkdir()
    for split in job.splits:
        path = folder / "data" / (f"{split}/metadata.jsonl" if with_images else f"{split}.jsonl")
        path.parent.mkdir(exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            for number, rows in enumerate(job.images(split)):
                head = {"source_image": rows[0]["image"]}
                if with_images:
                    many = len(job.splits[split]) > _MAX_FILES
                    name = output_name(rows[0]["key"]) + image_suffix(rows[0])
                    name = f"{number // _MAX_FILES:04d}/{name}" if many else name
                    job.add_image(rows[0], Path("data", split, name), folder, copy=True)
                    head = {"file_name": name, **head}
                for row in rows:
                    labels = {name: row[name] for name in (*_KNOWN, *job.source.annotation_columns)}
                    file.write(f"{compact_json(head | labels)}\n")
                job.count("images" if with_images else "images named")
    publish_bytes(folder / "README.md", _card(job, with_images=with_images).encode())


def _card(job: ExportJob, *, with_images: bool) -> str:
    counts = {split: sum(map(len, images)) for split, images in job.splits.items()}
    rows = "\n".join(f"| {split} | {count} |" for split, count in counts.items())
    shown = "Images and labels." if with_images else (
        "Labels without the images, which the license does not let us redistribute: `source_image` is the path of an image in the "
        "original archive."
    )  # fmt: skip
    return dataset_card(
        job.name, groups=job.groups, num_rows=sum(counts.values()), features=_features(job, with_images=with_images),
        files={split: f"data/{split}/**" if with_images else f"data/{split}.jsonl" for split in counts},
        sections=[
            f"# {job.name}\n\n{shown}",
            f"| split | rows |\n|---|---|\n{rows}",
            _CONVENTIONS,
            landmark_text(job.landmark_set),
            *(vocabulary_text(column, vocabulary) for column, vocabulary in sorted(job.vocabularies.items())),
            license_text(job.metadata),
        ],
    )  # fmt: skip


def _features(job: ExportJob, *, with_images: bool) -> list[dict[str, Any]]:
    schema = job.source.frame.schema
    listed = [{"name": name, **_feature(schema[name])} for name in (*_KNOWN, *job.source.annotation_columns)]
    head: list[dict[str, Any]] = [{"name": "image", "dtype": "image"}] if with_images else []
    return [*head, {"name": "source_image", "dtype": "string"}, *listed]


def _feature(kind: Any) -> dict[str, Any]:
    if isinstance(kind, pl.List):
        inner = _feature(kind.inner)
        return {"list": inner.get("dtype", inner)}
    return {"dtype": "string" if kind.base_type() in _TEXT else _TYPES.get(kind.base_type(), "int64")}
