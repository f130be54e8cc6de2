"""The stream and the writer of shards against what people use today: work per CPU-second of the whole process tree.

    python benchmarks/peers.py [--photographs FOLDER] [--images 2000] [--rounds 5] [--tiny]

Contestants (`benchmarks/contestants/`) are processes that stay open and take turns in every round, so a busy machine
slows all of them equally; ratios are medians over rounds. CPU time counts all workers and excludes the start of a
process. Streams have two workers and take what a trainer takes: shuffled batches of the `full` profile with labels, from
the pool of a run. Loaders of peers get the same images and the same recipe (`recipe` in `stream.py`): uint8 images, and
moved keypoints where the task has them.

Peers run in `.bench/peers`, which `make bench` installs from `benchmarks/peers-requirements.txt`; those that are missing
or fail are listed instead of measured. The images are photographs of the two sizes of the data sets, 300 pixels and 17 KB
(DeepFashion) and 512 pixels and 47 KB (FashionAI); without `--photographs`, synthetic textures of the same sizes. `--tiny`
runs everything that needs no peers once, on a few images.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fschemas.cores import available_cores, let_waiting_threads_sleep

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
let_waiting_threads_sleep()  # before a library loads OpenMP; inherited by contestants

HERE = Path(__file__).parent
PEERS = HERE.parent / ".bench/peers/bin/python"
ALBUMENTATIONS, TORCHVISION = "webdataset + albumentations", "webdataset + torchvision"
LOADERS = {ALBUMENTATIONS: 3.0, TORCHVISION: 5.0, "litdata": 2.5, "mosaicml-streaming": 2.5, "DALI": 2.5}
SHARE_OF_DECODING = 0.45
WRITERS = {"concatenation": 0.5, "tarfile": 2.0, "webdataset": 2.0, "img2dataset": 10.0}
RESIZED_WRITER, RESIZE = "OpenCV and tarfile", 1.3
WORKER_MEMORY, FIRST_BATCH = 400.0, 3.0  # MB, seconds
LARGE_SET = 289_222  # images of DeepFashion's category benchmark
PEER_BATCH = 32  # at most: four batches are read ahead, few beside those of a turn, also when an epoch ends
_WARM_UP = 1  # rounds


@dataclass(frozen=True)
class Data:
    """A data set of one shape: median size of the JPEGs in KB, and the longest side that shards keep."""

    dataset: str
    kilobytes: float
    size: int | None = None


DATA = {
    "category": Data("deepfashion-category", 17), "keypoints": Data("fashionai-keypoints", 47),
    "retrieval": Data("deepfashion-inshop", 17), "style": Data("kfashion", 115, size=512), "fashionnet": Data("deepfashion-category", 17),
}  # fmt: skip
COMPARED = ("category", "keypoints")  # tasks with a recipe that peers run: one of each shape


def prepare(folder: Path, data: Data, images: int, photographs: Path | None) -> Path:
    """Write raw files, table and shards of synthetic labels on photographs or textures; return their folder."""
    import simplejpeg

    from fprep.convert.command import convert
    from fprep.convert.source_table import SourceTable
    from fprep.shard.command import shard
    from fprep.synthetic.command import find_sample

    folder = folder / data.dataset
    if folder.exists():
        return folder
    print(f"preparing {images} images of {data.dataset} ...", file=sys.stderr)
    find_sample(data.dataset)(folder / "raw", images=images, seed=0, workers=available_cores())
    paths = sorted(path for path in (folder / "raw").rglob("*") if path.suffix.lower() == ".jpg")
    contents = picture_source(photographs)
    sizes = [simplejpeg.decode_jpeg_header(path.read_bytes())[:2] for path in paths]
    few = [contents(number, *size) for number, size in enumerate(sizes[:24])]

    def median(quality: int) -> float:
        return statistics.median(len(simplejpeg.encode_jpeg(image, quality, colorsubsampling="420")) for image in few)

    quality = min(range(40, 100), key=lambda quality: abs(median(quality) - 1000 * data.kilobytes))
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        path.write_bytes(simplejpeg.encode_jpeg(contents(number, *size), quality, colorsubsampling="420"))
    convert(data.dataset, [folder / "raw"], folder / "table", check_images="full", max_rejected=1.0)
    shard(folder / "table", folder / "shards", size=data.size)
    source = SourceTable.open(folder / "table")
    samples = [
        {
            "key": row["key"], "path": str(source.raw_root(None) / row["image"]),
            "annotation": {name: row[name] for name in ("key", "split", "group", *source.annotation_columns)},
        }
        for row in source.rows(tuple(range(len(source.frame))))
    ]  # fmt: skip
    (folder / "samples.json").write_text(json.dumps(samples))
    return folder


def picture_source(photographs: Path | None) -> Callable[[int, int, int], Any]:
    """Return a function of (number, height, width) that gives an image, uint8 (H, W, 3)."""
    import cv2
    import numpy as np

    found = sorted(path for path in photographs.rglob("*.jpg") if path.stat().st_size > 9000) if photographs else []
    np.random.default_rng(0).shuffle(found)

    def photograph(number: int, height: int, width: int) -> Any:
        image = cv2.imread(str(found[number % len(found)]))[:, :, ::-1]
        scale = max(height / image.shape[0], width / image.shape[1])
        size = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        return np.ascontiguousarray(cv2.resize(image, size, interpolation=kind)[:height, :width])

    def texture(number: int, height: int, width: int) -> Any:
        """Noise of equal strength in every octave, as in photographs."""
        generator = np.random.default_rng(number)
        image = np.full((height, width, 3), 128, np.float32)
        for octave in range(8):
            noise = generator.normal(0, 14, (max(2, height >> octave), max(2, width >> octave), 3)).astype(np.float32)
            image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.clip(image, 0, 255).astype(np.uint8)

    return photograph if found else texture


class Contestant:
    """An open process of `benchmarks/contestants`."""

    def __init__(self, name: str, python: Path, program: str, arguments: list[str]) -> None:
        self.name, self.rates = name, list[float]()
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read if the process fails
        path = os.pathsep.join(str(HERE.parent / package) for package in ("schemas", "pipeline", "training"))
        self.process = subprocess.Popen(
            [python, HERE / "contestants" / program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        self.version = ""
        self.problem = ""

    def measure(self, images: int) -> None:
        """Process at least `images` images and note the rate per CPU-second."""
        if self.problem:
            return
        assert self.process.stdin
        assert self.process.stdout
        try:
            if not self.version:
                self.version = json.loads(self.process.stdout.readline())["version"] or "this project"
            self.process.stdin.write(f"{images}\n")
            self.process.stdin.flush()
            found = json.loads(self.process.stdout.readline())
            self.rates.append(found["images"] / found["cpu"])
        except (OSError, ValueError):  # it has ended
            self.process.wait()
            self.errors.seek(0)
            self.problem = (self.errors.read().strip().splitlines() or ["it ended"])[-1][:160]

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def contest(entries: list[Contestant], images: dict[str, int], rounds: int) -> Iterator[dict[str, Contestant]]:
    """Let contestants take turns; `images` by name, "" for the others."""
    try:
        for _ in range(rounds + _WARM_UP):
            for entry in entries:
                entry.measure(images.get(entry.name, images[""]))
        for entry in entries:
            entry.rates = entry.rates[_WARM_UP:] if len(entry.rates) > _WARM_UP else entry.rates
        yield {entry.name: entry for entry in entries}
    finally:
        for entry in entries:
            entry.close()


class Table:
    """A Markdown table of measured ratios and their aims; `missed` lists the aims that were not reached."""

    def __init__(self) -> None:
        self.missed: list[str] = []
        self.versions: set[str] = set()
        print("| what | measured | lowest, highest | aim | |\n|---|---|---|---|---|", flush=True)

    def ratio(self, what: str, ours: Contestant, theirs: Contestant, aim: float | None) -> None:
        """Add the ratio of two contestants; a contestant that failed is listed with its error."""
        for entry in (ours, theirs):
            if entry.problem:
                print(f"| {what} | not measured: {entry.problem} | | | |", flush=True)
                return
        self.versions.add(theirs.version)
        ratios = [mine / other for mine, other in zip(ours.rates, theirs.rates, strict=True)]
        rates = f"{statistics.median(ours.rates):,.0f} : {statistics.median(theirs.rates):,.0f} images per CPU-second"
        spread = f"{min(ratios):.2f}, {max(ratios):.2f}"
        self.add(f"{what} ({rates})", statistics.median(ratios), spread, aim)

    def add(self, what: str, value: float, spread: str, aim: float | None, *, is_limit: bool = False) -> None:
        """Add a value that should be at least `aim`, or at most if it `is_limit`."""
        verdict = ""
        if aim is not None:
            reached = value <= aim if is_limit else value >= aim
            verdict = "reached" if reached else "MISSED"
            self.missed += [] if reached else [what]
        print(f"| {what} | {value:.2f} | {spread} | {'' if aim is None else f'{aim:g}'} | {verdict} |", flush=True)


def own(name: str, folder: Path, *arguments: str) -> Contestant:
    return Contestant(name, Path(sys.executable), "own.py", [name, str(folder), *arguments])


def compare_streams(table: Table, task: str, folder: Path, options: argparse.Namespace) -> None:
    """The stream of a task against bare decoding and, if peers are compared on it, against their loaders."""
    small = ["fit.batch_size=8"] if options.tiny else []
    entries = [own("stream", folder, task, *small), own("decoding", folder)]
    if task in COMPARED and not options.tiny:
        settings = json.dumps(recipe_settings(task, folder))
        entries += [Contestant(name, PEERS, "peers.py", [name, str(folder), settings]) for name in LOADERS]
    images = {"": options.images, "stream": options.images * 2, "decoding": options.images * 3}
    with contest(entries, images, options.rounds) as found:
        table.ratio(f"stream of {task}, share of bare decoding", found["stream"], found["decoding"], SHARE_OF_DECODING)
        for name in LOADERS.keys() & found.keys():
            table.ratio(f"stream of {task} over {name}", found["stream"], found[name], LOADERS[name])


def recipe_settings(task: str, folder: Path) -> dict[str, Any]:
    """What `recipe` needs of the `full` profile; peers do not crop to keypoints, which is less work."""
    from fschemas.shard_set import ShardSet
    from ftrain.fit.config import load_config
    from ftrain.tasks.task import find_task

    config = load_config(task, None, "full", [])
    view = find_task(task).Config(**config.model)
    names = ("input_size", "scale", "rotation", "translate", "flip", "color_jitter", "crop")
    first = ShardSet.open(folder / "shards").read(0)[1]
    points = "landmark_x" in first and "landmarks" in find_task(task).needs
    batch_size = min(PEER_BATCH, config.fit.batch_size)
    return {**{name: getattr(view, name) for name in names}, "points": points, "batch_size": batch_size}


def compare_writers(table: Table, folder: Path, shape: str, options: argparse.Namespace) -> None:
    entries = [own(name, folder) for name in ("shard", "concatenation", "tarfile")]
    if not options.tiny:
        entries += [Contestant(name, PEERS, "peers.py", [name, str(folder)]) for name in ("webdataset", "img2dataset")]
    turns = {"": options.images if options.tiny else 5 * options.images, "img2dataset": 1}  # img2dataset takes seconds
    with contest(entries, turns, options.rounds) as found:
        for name, aim in WRITERS.items():
            if name in found:
                table.ratio(f"writing original bytes, {shape}, over {name}", found["shard"], found[name], aim)
    names = "shard --size 256", RESIZED_WRITER
    with contest([own(name, folder) for name in names], {"": options.images}, options.rounds) as found:
        table.ratio(f"writing --size 256, {shape}, over {RESIZED_WRITER}", *(found[name] for name in names), RESIZE)


def large_set(folder: Path, samples: int) -> Path:
    """Write a set of so many samples under `folder`: the index is real, its shards are links to one tar of the small set."""
    import dataclasses

    import polars as pl

    from fprep.convert.source_table import SourceTable
    from fprep.shard.finish import finish
    from fprep.shard.plan import plan_shards
    from fschemas.shard import read_record

    tar = folder / "shards/train-000000.tar"
    record, source = read_record(folder / "shards", tar.name), SourceTable.open(folder / "table")
    assert record
    train = source.frame.filter(pl.col("split") == "train")
    frame = pl.concat([train] * -(-samples // len(train)))[:samples]
    keys = "k" + pl.int_range(samples, eager=True).cast(pl.String)
    source = dataclasses.replace(source, frame=frame.with_columns(keys.alias("key"), keys.alias("group")))
    plan, out = plan_shards(source), folder / "large/shards"
    out.mkdir(parents=True)
    records: list[Any] = []
    for planned in plan.shards:
        (out / planned.name).hardlink_to(tar)
        members = {
            name: tuple(getattr(record, name)[number % len(record.keys)] for number in range(len(planned.rows)))
            for name in ("images", "annotations")
        }
        names = tuple(source.frame["key"][list(planned.rows)])
        records.append(dataclasses.replace(record, name=planned.name, keys=names, **members))
    finish(out, source, plan, records)
    return folder / "large"


def measure_start(table: Table, folder: Path, options: argparse.Namespace) -> None:
    """Time from opening a large set to its first batch, and memory of a worker."""
    samples = 2000 if options.tiny else LARGE_SET
    large = large_set(folder, samples)
    command = [sys.executable, HERE / "contestants/own.py", "start", large, "category"]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(options.rounds)
    ]
    seconds, own_memory = [entry["seconds"] for entry in found], [entry["own"] for entry in found]
    spread = f"{min(seconds):.1f}, {max(seconds):.1f}"
    what = f"seconds from opening {samples:,} samples to the first batch of category"
    table.add(what, statistics.median(seconds), spread, FIRST_BATCH, is_limit=True)
    spread = f"{max(entry['resident'] for entry in found):.0f} with what it shares"
    what = "MB of a worker's own"
    table.add(what, statistics.median(own_memory), spread, WORKER_MEMORY, is_limit=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help="JPEG files in or below a folder")
    parser.add_argument("--images", type=int, default=2000, help="of each data set, and of each turn of a contestant")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="a quick run without peers")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep the prepared data here")
    options = parser.parse_args()
    if options.tiny:
        options.images, options.rounds = 48, 1
    if not options.tiny and not PEERS.exists():
        sys.exit(f"{PEERS} is missing; run `make bench`, or pass --tiny to measure without peers")
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folders = {
            task: prepare(work, data, options.images, options.photographs) for task, data in DATA.items()
            if task in COMPARED or not options.tiny
        }  # fmt: skip
        source = "photographs" if options.photographs else "synthetic textures"
        print(f"{source}; Python {platform.python_version()}, {available_cores()} cores, {time.strftime('%Y-%m-%d')}\n")
        table = Table()
        for task, folder in folders.items():
            compare_streams(table, task, folder, options)
        for task in COMPARED:
            compare_writers(table, folders[task], f"{DATA[task].kilobytes} KB", options)
        measure_start(table, folders["category"], options)
        print(f"\nVersions: {'; '.join(sorted(table.versions - {'this project'}))}")
    sys.exit(1 if table.missed and not options.tiny else 0)


if __name__ == "__main__":
    main()
