"""Contestants of this project, and the baselines of bare decoding and plain files: `own.py NAME FOLDER [TASK SETTING ...]`."""

import io
import json
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving import serve

from fschemas.cores import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before torch is imported


def pool_of_run(folder: Path, task_name: str, *settings: str) -> Any:
    """The pool of workers of `ftrain TASK --profile full`."""
    import cv2

    from ftrain.data.joined_shards import open_sets
    from ftrain.fit.config import load_config
    from ftrain.fit.run_data import RunData, RunPool
    from ftrain.fit.splits import names_to_learn
    from ftrain.tasks.task import build_task, find_task

    cv2.setNumThreads(0)
    weights = [f"model.{name}=none" for name in find_task(task_name).Config.model_fields if name.endswith("weights")]
    config = load_config(task_name, None, "full", [*weights, "validation_split=none", *settings])
    shards = open_sets([str(folder / "shards")])
    task = build_task(config, {**shards.metadata, "names": names_to_learn(config, shards)})
    return RunPool(RunData(task, config, shards, rank=0, world_size=1), workers=2)


def stream(folder: Path, task_name: str, *settings: str) -> Iterator[int]:
    """The training batches of a run."""
    import torch

    with pool_of_run(folder, task_name, *settings) as pool:
        for batch in pool.training(range(1 << 30), torch.device("cpu")):
            yield len(batch["row"])


def start(folder: Path, task_name: str, *settings: str) -> None:
    """Print the seconds from opening the set to its first batch, and the MB that each worker has to itself by then."""
    import torch

    import ftrain.fit.run_data  # noqa: F401 - imports do not depend on the set
    from ftrain.tasks.task import find_task

    find_task(task_name)
    begin = time.perf_counter()
    with pool_of_run(folder, task_name, *settings) as pool:
        batches = pool.training(range(1 << 30), torch.device("cpu"))
        next(batches)
        seconds = time.perf_counter() - begin
        memory = [_memory(worker.process) for worker in pool.pool]
    own, resident = (max(each) for each in zip(*memory, strict=True))
    print(json.dumps({"seconds": seconds, "own": own, "resident": resident}))


def _memory(process: int) -> tuple[float, float]:
    """MB of a process that are not shared with others, and all that is resident."""
    found = dict.fromkeys(("Private_Clean", "Private_Dirty", "Rss"), 0)
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
        found[line.partition(":")[0]] = int(line.split()[1])
    return (found["Private_Clean"] + found["Private_Dirty"]) / 1024, found["Rss"] / 1024


def decoding(folder: Path) -> Iterator[int]:
    """Bare decoding of the same JPEGs, at full size, from memory."""
    import simplejpeg

    from fschemas.shard_set import ShardSet

    shards = ShardSet.open(folder / "shards")
    images = [shards.read(int(row))[0] for row in shards.rows("train")]
    while True:
        for image in images:
            simplejpeg.decode_jpeg(image, "RGB")
            yield 1


def shard_writer(folder: Path, size: int | None = None) -> Iterator[int]:
    from fprep.shard.command import shard

    while True:
        shutil.rmtree(folder / "own", ignore_errors=True)
        done = shard(folder / "table", folder / "own", workers=1, size=size)
        yield sum(done["splits"].values())


def concatenation(folder: Path) -> Iterator[int]:
    """The bytes of all images in one file, and nothing else."""
    paths = [sample["path"] for sample in json.loads((folder / "samples.json").read_text())]
    while True:
        with open(folder / "concatenated", "wb", buffering=0) as out:
            for path in paths:
                with open(path, "rb", buffering=0) as file:
                    out.write(file.read())
        yield len(paths)
        (folder / "concatenated").unlink()


def tar_writer(folder: Path, size: int | None = None) -> Iterator[int]:
    """Image and annotation of every sample by the standard library; with `size`, resized by OpenCV."""
    import cv2

    cv2.setNumThreads(0)
    samples: list[dict[str, Any]] = json.loads((folder / "samples.json").read_text())

    def resized(path: str, size: int) -> bytes:
        image = cv2.imread(path)
        height, width = image.shape[:2]
        scale = size / max(height, width)
        small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444  # as in shards
        return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 90, *sampling])[1].tobytes()

    while True:
        with tarfile.open(folder / "tarfile.tar", "w") as out:
            for sample in samples:
                image = resized(sample["path"], size) if size else Path(sample["path"]).read_bytes()
                text = json.dumps(sample["annotation"]).encode()
                for suffix, content in ((".jpg", image), (".json", text)):
                    info = tarfile.TarInfo(sample["key"] + suffix)
                    info.size = len(content)
                    out.addfile(info, io.BytesIO(content))
        yield len(samples)
        (folder / "tarfile.tar").unlink()


def main() -> None:
    name, folder, *rest = sys.argv[1:]
    if name == "start":
        start(Path(folder), *rest)
        return
    ways = {
        "stream": lambda: stream(Path(folder), *rest),
        "decoding": lambda: decoding(Path(folder)),
        "shard": lambda: shard_writer(Path(folder)),
        "shard --size 256": lambda: shard_writer(Path(folder), 256),
        "concatenation": lambda: concatenation(Path(folder)),
        "tarfile": lambda: tar_writer(Path(folder)),
        "OpenCV and tarfile": lambda: tar_writer(Path(folder), 256),
    }
    serve(ways[name](), "")


if __name__ == "__main__":
    main()
