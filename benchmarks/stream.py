"""CPU cost of an image in the data workers of each task, compared with decoding and albumentations.

    python benchmarks/stream.py --photographs FOLDER [--profile full] [--images 100] [--rounds 5] [TASK ...]

The encoder is the one used by `ftrain TASK`, with the settings of the profile: it decodes a JPEG, warps the image and
its landmarks or box by one random matrix, and jitters the colors. With `--transforms device`, it only decodes and draws,
and the device does the rest, which is not measured here. albumentations gets the same decoded size, ranges and
output (uint8, transformed landmarks). Bare decoding is simplejpeg at full size. Everything runs in one process on one
thread, and the methods take turns, so a busy machine slows all of them equally. Results are CPU time.

The images are photographs (JPEG files in or below the folder) in the sizes of the data sets: 300 pixels and 17 KB
(DeepFashion), 512 pixels and 47 KB (FashionAI), 800 pixels and 115 KB (K-Fashion); labels are synthetic and scaled with the image. Without a folder, the
images are synthetic garments, which compress differently.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fschemas.cores import let_waiting_threads_sleep

if TYPE_CHECKING:
    from ftrain.data.stream import RawSample

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
let_waiting_threads_sleep()  # before torch is imported
DATASETS = {
    "keypoints": "fashionai-keypoints", "category": "deepfashion-category", "fashionnet": "deepfashion-category",
    "retrieval": "deepfashion-inshop", "style": "kfashion",
}  # fmt: skip
SIZES = {300: 17, 512: 47, 800: 115}  # longer side in pixels: kilobytes


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


def photographs_like(samples: list[RawSample], folder: Path, side: int, kilobytes: float) -> list[RawSample]:
    """Samples of the same labels on photographs of that longer side, with that median size of the JPEGs."""
    import cv2
    import numpy as np
    import simplejpeg

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    chosen = random.Random(0).sample(files, min(len(samples), len(files)))
    photographs = [simplejpeg.decode_jpeg(path.read_bytes(), "RGB") for path in chosen]
    scaled: list[dict[str, Any]] = []
    images: list[np.ndarray] = []
    for sample, photograph in zip(samples, itertools.cycle(photographs)):
        note = dict(sample.annotation)
        factor = side / max(note["width"], note["height"])
        note |= {name: round(note[name] * factor) for name in ("width", "height")}
        for name in {"box", "landmark_x", "landmark_y"} & note.keys():
            note[name] = [value * factor for value in note[name]]
        images.append(cv2.resize(photograph, (note["width"], note["height"]), interpolation=cv2.INTER_CUBIC))
        scaled.append(note)

    def encoded(quality: int) -> list[bytes]:
        return [simplejpeg.encode_jpeg(image, quality, colorsubsampling="420") for image in images]

    quality = min(range(80, 100), key=lambda q: abs(statistics.median(map(len, encoded(q))) / 1024 - kilobytes))
    jpegs = encoded(quality)
    print(f"{side} px: quality {quality}, median {statistics.median(map(len, jpegs)) / 1024:.0f} KB", file=sys.stderr)
    return [type(sample)(sample.row, jpeg, note) for sample, jpeg, note in zip(samples, jpegs, scaled, strict=True)]


def build(task_name: str, profile: str, shards: Path, images: int) -> tuple[Any, list[RawSample]]:
    """Return the task and training samples of the shard set."""
    from fschemas.shard_set import ShardSet
    from ftrain.data.stream import RawSample
    from ftrain.fit.config import load_config
    from ftrain.fit.splits import names_to_learn
    from ftrain.tasks.task import build_task, find_task

    opened = ShardSet.open(shards)
    weights = [
        name for name in find_task(task_name).Config.model_fields if name.endswith("weights")
    ]  # the network is not needed
    overrides = [f"model.{name}=none" for name in weights]
    if task_name == "keypoints":
        overrides.append("model.crop=image")  # the recipe has no crop to keypoints
    config = load_config(task_name, None, profile, overrides)
    task = build_task(config, {**opened.metadata, "names": names_to_learn(config, opened)})
    rows = opened.rows("train")[:images]
    return task, [RawSample(int(row), *opened.read(int(row))) for row in rows]


def measure(task: Any, samples: list[RawSample], rounds: int) -> dict[str, float]:
    """Measure CPU microseconds per image, the median of all rounds, of each method."""
    import cv2
    import numpy as np
    import simplejpeg
    import torch

    from ftrain.data.stream import Generators, keep_freed_memory

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()  # as in data workers
    theirs = recipe(task.config, "landmark_x" in samples[0].annotation and "landmarks" in task.needs)
    size = task.view_config().input_size
    side = min(2 * size, max(max(sample.annotation["width"], sample.annotation["height"]) for sample in samples))
    out, canvas = np.zeros((size, size, 3), np.uint8), np.zeros((side, side, 3), np.uint8)
    ways: dict[str, Callable[[RawSample, Any], Any]] = {
        "workers": lambda sample, generator: task.encoder(replace(sample, out=out), generator),
        "device": lambda sample, generator: task.encoder(replace(sample, out=canvas, canvas=side), generator),
        "decoding": lambda sample, _: simplejpeg.decode_jpeg(sample.image, "RGB"),
        "albumentations": lambda sample, _: theirs(sample.image, sample.annotation),
    }
    generators = Generators(0, len(samples), np.arange(len(samples)))
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first round warms up
        spent: dict[str, int] = {}
        for name, way in ways.items():
            start = time.process_time_ns()
            for position, sample in enumerate(samples):
                way(sample, generators.of(number, position))
            spent[name] = time.process_time_ns() - start
        if number:
            for name, nanoseconds in spent.items():
                found[name].append(nanoseconds / 1000 / len(samples))
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="all of them by default")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", type=Path, help="folder of JPEG files")
    options = parser.parse_args()
    print(
        "| task | images | encoder, µs | decoding / encoder | albumentations / encoder | decoding / encoder, device |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        sets: dict[str, Path] = {}
        for name in options.tasks or DATASETS:
            dataset = DATASETS[name]
            if dataset not in sets:
                sets[dataset] = prepare(Path(temporary), dataset, options.images * 2)
            task, samples = build(name, options.profile, sets[dataset], options.images)
            cases = {"synthetic": samples}
            if options.photographs:
                cases = {
                    f"{side} px, {size} KB": photographs_like(samples, options.photographs, side, size)
                    for side, size in SIZES.items()
                }
            for case, own in cases.items():
                found = measure(task, own, options.rounds)
                cells = [f"{found[other] / found['workers']:.2f}" for other in ("decoding", "albumentations")]
                cells = [f"{found['workers']:,.0f}", *cells, f"{found['decoding'] / found['device']:.2f}"]
                print(f"| {name} | {case} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
