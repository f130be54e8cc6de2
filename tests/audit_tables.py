"""Small tables with distinguishable images, for tests of the audit, the split lock and the group split."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import simplejpeg
from PIL import Image

from fschemas.landmarks import DEEPFASHION_8
from fschemas.splits import SPLITS
from fschemas.table_file import write_table
from fschemas.tables import COLUMN_GROUPS, SampleTable, table_class
from fschemas.vocabularies import vocabulary

DEFAULTS: dict[str, Any] = {
    "garment": "full", "landmark_x": [20.0, 60.0] * 4, "landmark_y": [30.0, 30.0, 50.0, 50.0, 90.0, 90.0, 150.0, 150.0],
    "landmark_visibility": [2] * 8, "box": [10.0, 10.0, 110.0, 180.0], "attributes_positive": [0, 7, 10, 13, 17, 23],
    "attributes_unknown": [], "attributes_maybe": [], "category": "Dress", "style": "retro", "substyle": "", "item": "",
    "coarse_split": "", "domain": "unknown", "pairs": [],
}  # fmt: skip


def photograph(seed: int, width: int = 120, height: int = 200) -> Image.Image:
    """Render coarse and fine colored blobs; every seed gives different pixels."""
    generator = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(generator.integers(0, 256, (rows, columns, 3), dtype=np.uint8)).resize((width, height), 3),
            float,
        )
        for rows, columns in ((5, 3), (10, 6), (40, 24))
    ]
    return Image.fromarray(
        sum(weight * layer for weight, layer in zip((0.5, 0.3, 0.2), layers, strict=True)).round().astype(np.uint8)
    )


def jpeg(pixels: Image.Image, quality: int = 92) -> bytes:
    """Encode an image as JPEG."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(np.asarray(pixels)), quality)


def write_audit_table(
    folder: Path, rows: list[dict[str, Any]], *, groups: tuple[str, ...] = ("landmarks", "box", "attributes", "category"),
    dataset: str = "squares", digests: bool = True,
) -> Path:  # fmt: skip
    """Write a table and its images, and return the table folder.

    A row gives `split`, `pixels` (a Pillow image or JPEG bytes) and any values that differ from `DEFAULTS`.
    """
    table = table_class(*groups)
    columns = [*SampleTable.column_names(), *(name for group in groups for name in COLUMN_GROUPS[group])]
    complete: list[dict[str, Any]] = []
    for number, given in enumerate(rows):
        pixels = given.get("pixels", photograph(1000 + number))
        content = pixels if isinstance(pixels, bytes) else jpeg(pixels)
        image = given.get("image", f"img/{number:04d}.jpg")
        path = folder / "raw" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        facts = {
            "key": f"k{number:04d}", "image": image, "width": 120, "height": 200, "split": given["split"],
            "group": image, "sha256": hashlib.sha256(content).hexdigest() if digests else None, "image_format": "JPEG",
            "image_mode": "RGB", "image_orientation": 1, "source_file": "list.txt", "source_line": number + 1,
        }  # fmt: skip
        complete.append({name: given.get(name, facts.get(name, DEFAULTS.get(name))) for name in columns})
    frame = table.validate(pl.DataFrame(complete, infer_schema_length=None), cast=True)
    metadata = {
        "dataset": dataset, "table": "+".join(groups), "raw_root": "../raw", "column_groups": list(groups),
        "landmark_set": DEEPFASHION_8.to_json() if "landmarks" in groups else None, "license": "Made for tests.", "citation": "None.",
        "vocabularies": {"attributes": vocabulary("deepfashion-fine-26").to_json()} if "attributes" in groups else {},
    }  # fmt: skip
    frame = frame.with_columns(pl.col("split").cast(pl.Enum(SPLITS)))
    write_table(folder / "table" / "table.parquet", frame.to_arrow(), metadata)
    return folder / "table"
