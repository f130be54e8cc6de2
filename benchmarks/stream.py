"""CPU cost of an image in the data workers of each task, compared with decoding and albumentations.

    python benchmarks/stream.py [--profile full] [--images 200] [--rounds 5] [--shards keypoints=SET ...]

The encoder is the one used by `ftrain TASK`, with the settings of the profile: it decodes a JPEG, warps the image and
its landmarks or box by one random matrix, and jitters the colors. albumentations gets the same decoded size, ranges and
output (uint8, transformed landmarks). Everything runs in one process on one thread, and the three methods alternate on
each image, so a busy machine slows all of them equally. Results are CPU time. Without `--shards`, the images are
synthetic garments of the data set's image size; real photos compress differently.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fschemas.cores import let_waiting_threads_sleep

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
let_waiting_threads_sleep()  # before torch is imported
DATASETS = {
    "keypoints": "fashionai-keypoints", "category": "deepfashion-category", "fashionnet": "deepfashion-category",
    "retrieval": "deepfashion-inshop", "style": "kfashion",
}  # fmt: skip


def prepare(folder: Path, dataset: str, images: int) -> Path:
    """Write a shard set of synthetic garments with their original bytes."""
    from fprep.convert.command import convert
    from fprep.shard.command import shard
    from fprep.synthetic.command import find_sample

    print(f"rendering {images} images of {dataset} ...", file=sys.stderr)
    find_sample(dataset)(folder / f"{dataset}-raw", images=images, seed=0, workers=os.cpu_count() or 1)
    convert(dataset, [folder / f"{dataset}-raw"], folder / f"{dataset}-table", check_images="header", max_rejected=1.0)
    shard(folder / f"{dataset}-table", folder / dataset)
    return folder / dataset


def recipe(config: Any, has_points: bool) -> Callable[[bytes, dict[str, Any]], Any]:
    """The view of a task in albumentations: letterbox, then rotation, scale, shift, flip and color as configured."""
    import albumentations as A
    import cv2
    import numpy as np

    low, high = config.scale
    size, color = config.input_size, config.color_jitter
    steps = [
        A.LongestMaxSize(size, interpolation=cv2.INTER_AREA), A.PadIfNeeded(size, size, border_mode=cv2.BORDER_CONSTANT, fill=128),
        A.Affine(
            scale=(low, high), rotate=(-config.rotation, config.rotation), translate_percent=(-config.translate, config.translate), fill=128, p=1.0
        ),
        A.HorizontalFlip(p=config.flip), A.ColorJitter((1 - color, 1 + color), (1 - color, 1 + color), (1 - color, 1 + color), (0, 0), p=1.0),
    ]  # fmt: skip
    points = A.KeypointParams("xy", remove_invisible=False) if has_points else None
    compose = A.Compose(steps, keypoint_params=points)

    def run(jpeg: bytes, note: dict[str, Any]) -> Any:
        image = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        if config.crop == "box":
            left, top, right, bottom = (round(edge) for edge in note["box"])
            image = image[max(0, top) : bottom + 1, max(0, left) : right + 1]
        moved = {"keypoints": np.stack([note["landmark_x"], note["landmark_y"]], axis=1)} if has_points else {}
        return compose(image=image, **moved)

    return run


def measure(task_name: str, profile: str, shards: Path, images: int, rounds: int) -> dict[str, list[float]]:
    """Measure CPU microseconds per image in each round, for the encoder, bare decoding and albumentations."""
    import cv2
    import numpy as np
    import simplejpeg
    import torch

    from fschemas.shard_set import ShardSet
    from ftrain.data.stream import RawSample
    from ftrain.fit.config import load_config
    from ftrain.fit.splits import names_to_learn
    from ftrain.tasks.task import build_task, find_task

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    opened = ShardSet.open(shards)
    rows = opened.rows("train")[:images]
    weights = [
        name for name in find_task(task_name).Config.model_fields if name.endswith("weights")
    ]  # the network is not needed
    overrides = [f"model.{name}=none" for name in weights]
    if task_name == "keypoints":
        overrides.append("model.crop=image")  # the recipe has no crop to keypoints
    config = load_config(task_name, None, profile, overrides)
    task = build_task(config, {**opened.metadata, "names": names_to_learn(config, opened)})
    samples = [RawSample(int(row), *opened.read(int(row))) for row in rows]
    theirs = recipe(task.config, "landmark_x" in samples[0].annotation and "landmarks" in task.needs)
    ways: dict[str, Callable[[RawSample, int], Any]] = {
        "ftrain": lambda sample, number: task.encoder(sample, np.random.default_rng(number)),
        "decoding": lambda sample, _: simplejpeg.decode_jpeg(sample.image, "RGB"),
        "albumentations": lambda sample, _: theirs(sample.image, sample.annotation),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first round warms up
        spent = dict.fromkeys(ways, 0.0)
        for position, sample in enumerate(samples):
            for name, way in ways.items():
                start = time.process_time_ns()
                way(sample, number * len(samples) + position)
                spent[name] += time.process_time_ns() - start
        if number:
            for name, nanoseconds in spent.items():
                found[name].append(nanoseconds / 1000 / len(samples))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="full")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--shards", action="append", default=[], metavar="TASK=SET", help="a shard set instead of synthetic images"
    )
    options = parser.parse_args()
    own = dict(entry.split("=", 1) for entry in options.shards)
    print(
        "| task | encoder, µs | images per core-second | bare decoding / encoder | albumentations / encoder (lowest, highest) |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as temporary:
        sets: dict[str, Path] = {}
        for task in own or DATASETS:
            dataset = DATASETS[task]
            if task not in own and dataset not in sets:
                sets[dataset] = prepare(Path(temporary), dataset, options.images * 2)
            found = measure(
                task, options.profile, Path(own[task]) if task in own else sets[dataset], options.images, options.rounds
            )
            cost = statistics.median(found["ftrain"])
            ratios = [theirs / ours for theirs, ours in zip(found["albumentations"], found["ftrain"], strict=True)]
            decoding = statistics.median(found["decoding"]) / cost
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {task} | {cost:,.0f} | {1e6 / cost:,.0f} | {decoding:.2f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
