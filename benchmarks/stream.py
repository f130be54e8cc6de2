"""The training stream against two usual loaders, on the same shards, in one interleaved run: images per CPU-second as ratios.

    python benchmarks/stream.py [--images 2000] [--rounds 3] [--workers 2]

Every loader gives the same thing: shuffled float32 batches of random resized crops (256 pixels from pictures of 512,
224 from those of 300) with mirror, brightness, contrast and saturation, ImageNet's mean and deviation taken out, and
labels. Ours also checks a CRC per sample, follows an exact plan and can stop and go on anywhere. The figure is CPU time
of the whole process tree between two marks, so start-up does not count. Wall time on a shared machine says little;
ratios within a round do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fschemas.cores import let_waiting_threads_sleep

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
let_waiting_threads_sleep()  # before any loader brings torch
BATCH, SEED = 64, 0
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Long side as stored (None: as drawn), side of the crops.
SETS = {"512 px": (None, 256), "300 px": (300, 224)}
TARGETS = {"webdataset + OpenCV + albumentations": 2.5, "webdataset + PIL": 5.0}
OURS = "ftrain stream"
GARMENTS = ("blouse", "outwear", "dress", "skirt", "trousers")


class CropEncoder:
    """What a category model would use: a crop and the garment's number."""

    def __init__(self, size: int) -> None:
        from ftrain.crop import RandomResizedCrop

        self.crop = RandomResizedCrop(size, normalised=True)

    def __call__(self, sample: Any, generator: Any) -> dict[str, Any]:
        import numpy as np

        generator = generator or np.random.default_rng(0)
        label = np.int64(GARMENTS.index(sample.annotation["garment"]))
        return {"image": self.crop(sample.image, generator), "label": label}


def ours(shards: Path, size: int, workers: int) -> Iterator[int]:
    import numpy as np

    from fschemas.shard_set import ShardSet
    from ftrain.plan import TrainingPlan, extend_ledger
    from ftrain.stream import training_batches

    opened = ShardSet.open(shards)
    plan = TrainingPlan(opened.rows("train"), BATCH, SEED)
    ledger = "00"
    batches = training_batches(opened, CropEncoder(size), plan, positions=np.arange(BATCH), start=0, stop=10**6, workers=workers)
    for step, batch in enumerate(batches):
        ledger = extend_ledger(ledger, plan.batch(step))
        image = batch["image"].permute(0, 3, 1, 2)
        assert image.shape == (BATCH, 3, size, size), image.shape
        yield len(batch["label"])


def with_albumentations(shards: Path, size: int, workers: int) -> Iterator[int]:
    import albumentations as A
    import cv2
    import numpy as np
    import torch
    from albumentations.pytorch import ToTensorV2

    cv2.setNumThreads(0)
    transform = A.Compose([
        A.RandomResizedCrop(size=(size, size)), A.HorizontalFlip(p=0.5),
        A.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0, p=1.0),
        A.Normalize(MEAN, DEVIATION), ToTensorV2(),
    ])  # fmt: skip

    def decode(jpeg: bytes) -> torch.Tensor:
        picture = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return transform(image=picture)["image"]

    yield from webdataset_batches(shards, workers, decode)


def with_pillow(shards: Path, size: int, workers: int) -> Iterator[int]:
    import io

    import torch
    from PIL import Image
    from torchvision import transforms as T

    transform = T.Compose([
        T.RandomResizedCrop(size), T.RandomHorizontalFlip(), T.ColorJitter(0.4, 0.4, 0.4), T.ToTensor(), T.Normalize(MEAN, DEVIATION),
    ])  # fmt: skip

    def decode(jpeg: bytes) -> torch.Tensor:
        return transform(Image.open(io.BytesIO(jpeg)).convert("RGB"))

    yield from webdataset_batches(shards, workers, decode)


def webdataset_batches(shards: Path, workers: int, decode: Any) -> Iterator[int]:
    import webdataset as wds
    from torch.utils.data import DataLoader

    def sample(item: dict[str, bytes]) -> tuple[Any, int]:
        return decode(item["jpg"]), GARMENTS.index(json.loads(item["json"])["garment"])

    paths = sorted(str(path) for path in shards.glob("train-*.tar"))
    dataset = wds.WebDataset(paths, resampled=True, shardshuffle=False).shuffle(1000).map(sample)
    for _, label in DataLoader(dataset, batch_size=BATCH, num_workers=workers):
        yield len(label)


LOADERS = {OURS: ours, "webdataset + OpenCV + albumentations": with_albumentations, "webdataset + PIL": with_pillow}


def cpu_seconds() -> float:
    import psutil

    process = psutil.Process()
    times = [child.cpu_times() for child in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def measure(loader: str, shards: Path, size: int, images: int, workers: int) -> float:
    """Images per CPU-second of the process tree, after a warm-up of eight batches."""
    import torch

    torch.set_num_threads(1)
    batches = iter(LOADERS[loader](shards, size, workers))
    for _ in range(8):
        next(batches)
    start, seen = cpu_seconds(), 0
    while seen < images:
        seen += next(batches)
    return seen / (cpu_seconds() - start)


def prepare(folder: Path, images: int) -> dict[str, Path]:
    """Drawn garments of 512 pixels (as FashionAI) and of 300 (as DeepFashion), as shards."""
    from fprep.convert import convert
    from fprep.sample import find_sample
    from fprep.shard import shard

    print(f"drawing {images} garments ...", file=sys.stderr)
    find_sample("fashionai-keypoints")(folder / "raw", images=images, seed=SEED, workers=os.cpu_count() or 1)
    convert("fashionai-keypoints", [folder / "raw"], folder / "table", images="header", val_share=0.0)
    for name, (stored, _) in SETS.items():
        shard(folder / "table", folder / name, size=stored, shard_samples=250)
    return {name: folder / name for name in SETS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="pictures to draw, and to count per measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure[0], Path(options.measure[1]), int(options.measure[2]), options.images, options.workers))
        return
    with tempfile.TemporaryDirectory() as temporary:
        failed = False
        for data, shards in prepare(Path(temporary), options.images).items():
            rounds: list[dict[str, float]] = []
            for number in range(options.rounds):
                command = [sys.executable, __file__, "--images", str(options.images), "--workers", str(options.workers)]
                rounds.append({
                    loader: float(subprocess.run([*command, "--measure", loader, str(shards), str(SETS[data][1])], check=True, stdout=subprocess.PIPE).stdout)
                    for loader in LOADERS
                })  # fmt: skip
                print(f"{data} round {number + 1}: {rounds[-1]}", file=sys.stderr)
            failed |= report(data, rounds)
    sys.exit(1 if failed else 0)


def report(data: str, rounds: list[dict[str, float]]) -> bool:
    """Print one table; True when a target is missed."""
    failed = False
    print(f"\n{data}, {len(rounds)} rounds: images per CPU-second (median), and ours over theirs (median, lowest, highest)")
    for loader in LOADERS:
        rate = statistics.median(entry[loader] for entry in rounds)
        ratios = [entry[OURS] / entry[loader] for entry in rounds]
        ratio = f"{statistics.median(ratios):5.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
        target = TARGETS.get(loader)
        verdict = "" if target is None else f"  target {target}: {'reached' if statistics.median(ratios) >= target else 'MISSED'}"
        failed |= target is not None and statistics.median(ratios) < target
        print(f"  {loader:40s} {rate:8.0f}  {ratio if target else '':24s}{verdict}")
    return failed


if __name__ == "__main__":
    main()
