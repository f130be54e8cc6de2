"""For tests of search: a shard set of plain colored images of items, and a task that embeds without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import simplejpeg
import torch
from tests.ftrain.likes.task import Likes

from fschemas.publish import publish_sealed, sha256_of
from fschemas.shard import Sample, write_shard
from fschemas.shard_index import INDEX_FILE
from fschemas.shard_set import DATASET_FILE, FORMAT, ShardSet
from fschemas.table_file import write_table
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint_state import TrainingState
from ftrain.fit.config import resolve
from ftrain.fit.run_folder import RunFolder
from ftrain.tasks.task import Task, build_task

SPLITS = {"train": 4, "query": 6, "gallery": 12}
NUM_ITEMS = 6


def find(name: str) -> type[Task]:
    """Stand-in for `ftrain.tasks.task.find_task`."""
    assert name == "likes"
    return Likes


def image_of(number: int) -> np.ndarray:
    """An image of item `number` modulo 6: two colors of its own, with a little noise."""
    item = np.random.default_rng(1000 + number % NUM_ITEMS)
    view = np.random.default_rng(number)
    image = np.empty((48, 40, 3))
    image[:24], image[24:] = item.integers(20, 236, 3), item.integers(20, 236, 3)
    return np.clip(image + view.normal(scale=9, size=3) + view.normal(scale=4, size=image.shape), 0, 255).astype(
        np.uint8
    )


def write_items(folder: Path, splits: dict[str, int] | None = None) -> Path:
    """Write a finished shard set; image n shows item n modulo 6 and is photos/<item>/<n>.jpg in the raw folder."""
    records: list[Any] = []
    notes: dict[str, dict[str, Any]] = {}
    for split, count in (splits or SPLITS).items():
        samples: list[Sample] = []
        for number in range(len(notes), len(notes) + count):
            item, key = f"item{number % NUM_ITEMS}", f"s{number:04d}"
            notes[key] = {
                "key": key, "split": split, "group": item, "width": 40, "height": 48, "image": f"photos/{item}/{number}.jpg",
                "copy": 0, "category": ("Dress", "Skirt")[number % 2], "item": item,
            }  # fmt: skip
            samples.append(Sample(key, simplejpeg.encode_jpeg(image_of(number), quality=95), notes[key]))
        records.append(write_shard(folder, f"{split}-000000.tar", split, "the plan", samples))
    rows = [
        {
            **{name: notes[key][name] for name in ("key", "split", "group", "copy", "category", "item")}, "shard": shard,
            "image_offset": image.offset, "image_size": image.size, "image_crc": image.crc,
            "json_offset": note.offset, "json_size": note.size, "json_crc": note.crc,
        }
        for shard, record in enumerate(records)
        for key, image, note in zip(record.keys, record.images, record.annotations, strict=True)
    ]  # fmt: skip
    write_table(folder / INDEX_FILE, pa.Table.from_pylist(rows))
    publish_sealed(folder / DATASET_FILE, {
        "format": FORMAT, "dataset": "items", "plan_id": "the plan", "column_groups": ["category", "item"], "landmark_set": None,
        "vocabularies": {}, "splits": {r.split: {"samples": len(r.keys), "shards": 1} for r in records},
        "index": {"bytes": (folder / INDEX_FILE).stat().st_size, "sha256": sha256_of(folder / INDEX_FILE)},
        "shards": [{"name": r.name, "split": r.split, "samples": len(r.keys), "bytes": r.bytes, "sha256": r.sha256} for r in records],
    })  # fmt: skip
    return folder


def write_run(folder: Path, shards: Path, says: str = "embedding", gain: float = 1.0) -> Path:
    """Write a run folder with one checkpoint of the task; call with `ftrain.fit.config.find_task` patched by `find`."""
    opened = ShardSet.open(shards)
    config = resolve({"task": "likes", "model": {"says": says}, "fit": {}}, "the test")
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.start(config, opened, "auto")
    task = build_task(config, opened.metadata)
    torch.nn.init.constant_(task.gain, gain)  # type: ignore[arg-type]
    state = TrainingState(step=3, plan_id=opened.plan_id, config_digest=config.digest)
    checkpoint.save_checkpoint(run.checkpoints, state, {"model": task.state_dict()}, keep=1)
    return folder
