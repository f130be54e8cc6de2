"""Small shard sets written with the contract alone, for tests of the trainers: bright squares on noise, a garment by its hue."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import simplejpeg

from fschemas.landmarks import DEEPFASHION_8, LandmarkSet, Visibility
from fschemas.publish import publish_json, sha256_of
from fschemas.shard import Sample, ShardRecord, shard_name, write_shard
from fschemas.shard_set import DATASET_FILE, FORMAT, INDEX_FILE
from fschemas.table_file import write_table


def draw_sample(number: int, split: str, landmarks: LandmarkSet, size: int = 64) -> Sample:
    """A picture with one coloured square per valid point."""
    generator = np.random.default_rng(number)
    garment = list(landmarks.garments)[number % len(landmarks.garments)]
    width, height = size, size - 8 * (number % 2)
    picture = generator.integers(0, 60, size=(height, width, 3), dtype=np.uint8)
    points = np.zeros((len(landmarks), 2))
    visibility = np.full(len(landmarks), Visibility.NOT_APPLICABLE.value)
    for point in landmarks.valid_points(garment):
        x, y = generator.integers(6, width - 6), generator.integers(6, height - 6)
        colour = np.array([80 + 20 * point, 255 - 25 * point, (97 * point) % 256])
        picture[y - 2 : y + 3, x - 2 : x + 3] = np.clip(colour, 0, 255)
        points[point] = x, y
        visibility[point] = Visibility.VISIBLE.value if generator.random() < 0.9 else Visibility.OCCLUDED.value
    annotation: dict[str, Any] = {
        "key": f"s{number:05d}", "split": split, "group": f"g{number}", "width": width, "height": height,
        "image": f"{number}.jpg", "copy": 0, "garment": garment,
        "landmark_x": points[:, 0].tolist(), "landmark_y": points[:, 1].tolist(), "landmark_visibility": visibility.tolist(),
    }  # fmt: skip
    return Sample(annotation["key"], simplejpeg.encode_jpeg(picture, quality=95), annotation)


def write_shard_set(
    folder: Path, counts: dict[str, int], landmarks: LandmarkSet = DEEPFASHION_8, *, shard_samples: int = 8
) -> Path:
    """Write a finished set with the given number of samples per split."""
    plan_id = hashlib.sha256(repr((sorted(counts.items()), landmarks.name)).encode()).hexdigest()
    records: list[ShardRecord] = []
    samples: list[Sample] = []
    for split, count in counts.items():
        drawn = [draw_sample(len(samples) + number, split, landmarks) for number in range(count)]
        for start in range(0, count, shard_samples):
            name = shard_name(split, start // shard_samples)
            records.append(write_shard(folder, name, split, plan_id, drawn[start : start + shard_samples]))
        samples += drawn
    write_table(folder / INDEX_FILE, _index(records, samples))
    splits = {
        split: {"samples": count, "shards": sum(record.split == split for record in records)} for split, count in counts.items()
    }
    shards = [{"name": r.name, "split": r.split, "samples": len(r.keys), "bytes": r.bytes, "sha256": r.sha256} for r in records]
    index = {"bytes": (folder / INDEX_FILE).stat().st_size, "sha256": sha256_of(folder / INDEX_FILE)}
    publish_json(folder / DATASET_FILE, {
        "format": FORMAT, "dataset": "squares", "plan_id": plan_id, "column_groups": ["landmarks"],
        "landmark_set": landmarks.to_json(), "vocabularies": {}, "splits": splits, "index": index, "shards": shards,
    })  # fmt: skip
    return folder


def _index(records: list[ShardRecord], samples: list[Sample]) -> pa.Table:
    rows: list[dict[str, Any]] = []
    notes = {sample.key: sample.annotation for sample in samples}
    for number, record in enumerate(records):
        for key, image, note in zip(record.keys, record.images, record.annotations, strict=True):
            rows.append({
                "key": key, "split": record.split, "group": notes[key]["group"], "copy": 0, "shard": number,
                "image_offset": image.offset, "image_size": image.size, "image_crc": image.crc,
                "json_offset": note.offset, "json_size": note.size, "json_crc": note.crc, "garment": notes[key]["garment"],
            })  # fmt: skip
    return pa.Table.from_pylist(rows)
