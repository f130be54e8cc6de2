"""Small tables with images for tests of `fprep shard` and `fprep lint`, written with fschemas only."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import simplejpeg
from PIL import Image

from fschemas.landmarks import DEEPFASHION_8, LandmarkSet, Visibility
from fschemas.table_file import write_table
from fschemas.tables import table_named
from fschemas.vocabularies import vocabulary


def write_small_table(
    folder: Path, counts: dict[str, int], *, checked: bool = True, landmarks: LandmarkSet = DEEPFASHION_8
) -> Path:
    """Write `raw/` and `table/table.parquet` with `counts` full-body rows per split; return the path of the table."""
    rows: list[dict[str, Any]] = []
    for split, count in counts.items():
        rows += [_row(folder / "raw", len(rows) + number, split, landmarks) for number in range(count)]
    return write_rows(folder, rows, checked=checked, landmarks=landmarks)


def write_rows(
    folder: Path, rows: list[dict[str, Any]], *, checked: bool = True, landmarks: LandmarkSet = DEEPFASHION_8
) -> Path:
    """Write a table of these rows; without `checked`, as after `fprep convert --check-images none`."""
    table = table_named("landmarks+box+attributes")
    unknown = ("width", "height", "sha256", "image_format", "image_mode", "image_orientation")
    plain = [row if checked else {**row, **dict.fromkeys(unknown)} for row in rows]
    frame = table.validate(pl.DataFrame(plain, infer_schema_length=None), cast=True)
    path = folder / "table" / "table.parquet"
    metadata = {
        "dataset": "squares", "table": "landmarks+box+attributes", "raw_root": "../raw", "landmark_set": landmarks.to_json(),
        "vocabularies": {"attributes": vocabulary("deepfashion-fine-26").to_json()}, "license": "Made for tests.", "citation": "None.",
        "column_groups": ["landmarks", "box", "attributes"],
    }  # fmt: skip
    write_table(path, frame.to_arrow(), metadata)
    return path


def row_of(raw: Path, number: int, split: str, content: bytes, size: tuple[int, int], **values: Any) -> dict[str, Any]:
    """A table row for an image with this content; `size` is (width, height) as displayed."""
    name = f"img/{number:04d}.jpg"
    (raw / "img").mkdir(parents=True, exist_ok=True)
    (raw / name).write_bytes(content)
    facts = {"image_format": "JPEG", "image_mode": "RGB", "image_orientation": 1}
    row = {
        "key": f"k{number:04d}", "image": name, "width": size[0], "height": size[1], "split": split, "group": f"g{number}",
        "sha256": hashlib.sha256(content).hexdigest(), **facts, "source_file": "list.txt", "source_line": number + 1,
        "garment": "full", "landmark_x": [0.0] * 8, "landmark_y": [0.0] * 8, "landmark_visibility": [0] * 8,
        "box": [1.0, 1.0, size[0] - 2.0, size[1] - 2.0], "attributes_positive": [0, 7], "attributes_unknown": [],
    }  # fmt: skip
    return {**row, **values}


def bright_spot(width: int, height: int, x: float, y: float, radius: float = 3.0) -> np.ndarray:
    """A gray image with a smooth bright spot centered at (x, y), uint8 H, W, 3."""
    rows, columns = np.mgrid[:height, :width]
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))
    return np.repeat((40 + 200 * spot).round().astype(np.uint8)[:, :, None], 3, axis=2)


def spot_center(image: np.ndarray) -> tuple[float, float]:
    """Centroid of the bright pixels."""
    weights = np.clip(image.astype(np.float64).mean(axis=2) - 80, 0, None)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((weights * columns).sum() / weights.sum()), float((weights * rows).sum() / weights.sum())


def _row(raw: Path, number: int, split: str, landmarks: LandmarkSet) -> dict[str, Any]:
    generator = np.random.default_rng(number)
    width, height = int(generator.integers(40, 72)), int(generator.integers(40, 72))
    image = generator.integers(0, 255, size=(height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(image).resize((width, height)))
    visibility = generator.choice(
        [Visibility.ABSENT.value, Visibility.OCCLUDED.value, Visibility.VISIBLE.value], len(landmarks)
    )
    points = generator.uniform(1, 39, size=(len(landmarks), 2)) * (visibility[:, None] > 0)
    content = simplejpeg.encode_jpeg(np.ascontiguousarray(image), 90)
    return row_of(
        raw, number, split, content, (width, height),
        landmark_x=points[:, 0].tolist(), landmark_y=points[:, 1].tolist(), landmark_visibility=visibility.tolist(),
    )  # fmt: skip
