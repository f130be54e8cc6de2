"""Small shard sets for tests of the trainers, written with fschemas only: bright squares on noise, hue by garment."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import simplejpeg

from fschemas.landmarks import DEEPFASHION_8, LandmarkSet, Visibility
from fschemas.publish import publish_sealed, sha256_of
from fschemas.shard import Sample, ShardRecord, shard_name, write_shard
from fschemas.shard_index import INDEX_FILE
from fschemas.shard_set import DATASET_FILE, FORMAT
from fschemas.table_file import write_table


def draw_sample(number: int, split: str, landmarks: LandmarkSet, size: int = 64) -> Sample:
    """Render an image with one colored square per valid landmark."""
    generator = np.random.default_rng(number)
    garment = list(landmarks.garments)[number % len(landmarks.garments)]
    width, height = size, size - 8 * (number % 2)
    image = generator.integers(0, 60, size=(height, width, 3), dtype=np.uint8)
    points = np.zeros((len(landmarks), 2))
    visibility = np.full(len(landmarks), Visibility.NOT_APPLICABLE.value)
    for point in landmarks.valid_landmarks(garment):
        x, y = generator.integers(6, width - 6), generator.integers(6, height - 6)
        color = np.array([80 + 20 * point, 255 - 25 * point, (97 * point) % 256])
        image[y - 2 : y + 3, x - 2 : x + 3] = np.clip(color, 0, 255)
        points[point] = x, y
        visibility[point] = Visibility.VISIBLE.value if generator.random() < 0.9 else Visibility.OCCLUDED.value
    annotation: dict[str, Any] = {
        "key": f"s{number:05d}", "split": split, "group": f"g{number}", "width": width, "height": height,
        "image": f"{number}.jpg", "copy": 0, "garment": garment,
        "landmark_x": points[:, 0].tolist(), "landmark_y": points[:, 1].tolist(), "landmark_visibility": visibility.tolist(),
    }  # fmt: skip
    return Sample(annotation["key"], simplejpeg.encode_jpeg(image, quality=95), annotation)


CATEGORIES = ("Blouse", "Jeans", "Dress", "Coat")  # of the types upper, lower, full, upper
ATTRIBUTES = ("plain", "striped", "short", "long", "silk", "denim", "cotton")
STYLES = ("casual", "formal", "sporty")
LABELS: dict[str, Any] = {
    "category": {"name": "test-category", "values": list(CATEGORIES), "exclusive": False,
                 "groups": {"upper": [0, 3], "lower": [1], "full": [2]}},
    "attributes": {"name": "test-attribute", "values": list(ATTRIBUTES), "exclusive": False,
                   "groups": {"texture": [0, 1], "shape": [2, 3], "fabric": [4, 5, 6]}},
    "style": {"name": "test-style", "values": list(STYLES), "groups": {}, "exclusive": False},
}  # fmt: skip
_GROUP_OF_VOCABULARY = {"category": "category", "attributes": "attributes", "style": "style"}


def label_sample(number: int, split: str, landmarks: LandmarkSet, items: int) -> Sample:
    """`draw_sample` with a stripe per label: category by hue at the top, attributes and style next to it, item below.

    Item n is in images n, n + items, n + 2 items …, with the same labels in all of them.
    """
    plain = draw_sample(number, split, landmarks)
    image = simplejpeg.decode_jpeg(plain.image, "RGB").copy()
    item = number % items
    note = dict(plain.annotation)
    category, style = item % len(CATEGORIES), item % len(STYLES)
    positive = sorted({item % 2, 2 + item // 2 % 2, 4 + item % 3})
    image[:6, :24] = [(250, 60, 60), (60, 250, 60), (60, 60, 250), (250, 250, 60)][category]
    image[:6, 24:44] = [(250, 250, 250), (120, 120, 120), (0, 200, 200)][style]
    image[6:10, :40] = 0
    for attribute in positive:
        image[6:10, 5 * attribute : 5 * attribute + 5] = 255
    image[-6:] = np.random.default_rng(1000 + item).integers(0, 255, 3)
    note |= {
        "group": f"item-{item}", "item": f"item-{item}", "category": CATEGORIES[category], "style": STYLES[style], "substyle": "",
        "gender": ("women", "men")[item % 2], "pose": "front", "color": ("Black", "White", "Red")[style], "description": "",
        "attributes_positive": positive, "attributes_unknown": [6] if 6 not in positive and number % 4 == 0 else [],
        "box": [4.0, 3.0, note["width"] - 6.0, note["height"] - 5.0],
    }  # fmt: skip
    return Sample(plain.key, simplejpeg.encode_jpeg(image, quality=95), note)


def write_label_set(
    folder: Path, counts: dict[str, int], landmarks: LandmarkSet = DEEPFASHION_8, *, items: int = 8, exclusive: bool = False,
    without: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """Write a finished set with categories, attributes (optionally exclusive), boxes, landmarks, items, styles and shop data.

    Column groups in `without` are left out of the set.
    """
    numbers = iter(range(sum(counts.values())))
    samples = {
        split: [label_sample(next(numbers), split, landmarks, items) for _ in range(count)]
        for split, count in counts.items()
    }
    columns = {
        "category": ("category",), "attributes": ("attributes_positive", "attributes_unknown"), "box": ("box",),
        "landmarks": ("garment", "landmark_x", "landmark_y", "landmark_visibility"), "item": ("item",), "style": ("style", "substyle"),
        "shop": ("gender", "pose", "color", "description"),
    }  # fmt: skip
    for sample in (sample for members in samples.values() for sample in members):
        for name in (name for group in without for name in columns[group]):
            del sample.annotation[name]
    groups = [group for group in columns if group not in without]
    vocabularies = {name: dict(LABELS[name]) for name in LABELS if _GROUP_OF_VOCABULARY[name] in groups}
    if exclusive and "attributes" in vocabularies:
        vocabularies["attributes"]["exclusive"] = True
    return write_samples(folder, samples, landmarks if "landmarks" in groups else None, groups, vocabularies)


def write_shard_set(
    folder: Path, counts: dict[str, int], landmarks: LandmarkSet = DEEPFASHION_8, *, shard_samples: int = 8
) -> Path:
    """Write a finished set with the given number of samples per split."""
    numbers = iter(range(sum(counts.values())))
    samples = {
        split: [draw_sample(next(numbers), split, landmarks) for _ in range(count)] for split, count in counts.items()
    }
    return write_samples(folder, samples, landmarks, ["landmarks"], {}, shard_samples=shard_samples)


def write_samples(
    folder: Path, by_split: dict[str, list[Sample]], landmarks: LandmarkSet | None, groups: list[str], vocabularies: dict[str, Any], *,
    shard_samples: int = 8,
) -> Path:  # fmt: skip
    """Write a finished set of the samples of each split."""
    counts = {split: len(samples) for split, samples in by_split.items()}
    named = landmarks.name if landmarks else None
    labels = repr((groups, vocabularies)) if vocabularies else ""
    plan_id = hashlib.sha256((repr((sorted(counts.items()), named)) + labels).encode()).hexdigest()
    records: list[ShardRecord] = []
    samples: list[Sample] = []
    for split, members in by_split.items():
        for start in range(0, len(members), shard_samples):
            name = shard_name(split, start // shard_samples)
            records.append(write_shard(folder, name, split, plan_id, members[start : start + shard_samples]))
        samples += members
    write_table(folder / INDEX_FILE, _index(records, samples))
    splits = {
        split: {"samples": count, "shards": sum(record.split == split for record in records)}
        for split, count in counts.items()
    }
    shards = [
        {"name": r.name, "split": r.split, "samples": len(r.keys), "bytes": r.bytes, "sha256": r.sha256}
        for r in records
    ]
    index = {"bytes": (folder / INDEX_FILE).stat().st_size, "sha256": sha256_of(folder / INDEX_FILE)}
    publish_sealed(folder / DATASET_FILE, {
        "format": FORMAT, "dataset": "squares", "plan_id": plan_id, "column_groups": groups,
        "landmark_set": landmarks.to_json() if landmarks else None, "vocabularies": vocabularies, "splits": splits, "index": index, "shards": shards,
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
                "json_offset": note.offset, "json_size": note.size, "json_crc": note.crc,
                **{name: notes[key][name] for name in ("garment", "category", "item", "style") if name in notes[key]},
            })  # fmt: skip
    return pa.Table.from_pylist(rows)
