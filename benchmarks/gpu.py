"""What a GPU gets done with the `full` profiles: one script of under 10 minutes for a machine with one GPU.

    python benchmarks/gpu.py wheels DIR [--python 3.12]       # on a machine with a network: what the image of the GPU lacks
    python benchmarks/gpu.py --wheels DIR --out gpu.md        # on the machine with the GPU
    python benchmarks/gpu.py --device cpu --tiny              # everything in small, as a trial without a GPU

It prints one Markdown table per part, and writes them to `--out` after each row, so that a timeout loses only the rest.
Each task has its own process, because data workers must be forked before CUDA is in use. Nothing is downloaded: weights are random, and the images are synthetic JPEG of the published sizes. Rates
are images/s of one process. Without a GPU it prints one line.
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MISSING = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "simplejpeg", "pyarrow", "pyyaml")
TASKS = ("category", "retrieval", "style", "fashionnet", "keypoints")
SIDES = {"keypoints": (512, 47_000), "style": (800, 90_000)}  # pixels and bytes of an image; the others:
SIDE = (300, 17_000)
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}  # bfloat16, dense, FLOP/s
AIM = 0.97  # share of the rate on a resident batch that real shards must reach
READS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "is_nonzero",
    "_unique2",
)  # operators that wait for the device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["wheels"], help="download wheels instead of measuring")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--python", default=f"3.{sys.version_info.minor}", help="Python version of the other machine")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install, without a network")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny profiles on a few small images")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of a measurement")
    parser.add_argument("--limit", type=float, default=540.0, help="seconds after which no measurement begins")
    parser.add_argument("--task", help=argparse.SUPPRESS)  # measure one task in this process, and print rows as JSON
    parser.add_argument("--workers", type=int, help="data workers; by default one per core, but one")
    parser.add_argument("--out", type=Path, help="file to append the tables to")
    options = parser.parse_args()
    if options.command == "wheels":
        download(options.folder or Path("wheels"), options.python)
        return
    if options.wheels is not None:
        install(options.wheels)
    sys.path[:0] = [str(ROOT / "schemas"), str(ROOT / "training"), str(ROOT)]
    from fschemas.cores import available_cores, let_waiting_threads_sleep

    let_waiting_threads_sleep()  # before torch is imported
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu.py: torch finds no GPU here; for a trial on the CPU: --device cpu --tiny")
        return
    options.workers = min(15, max(1, available_cores() - 1)) if options.workers is None else options.workers
    options.seconds = min(options.seconds, 0.2) if options.tiny else options.seconds
    if options.task:
        measure(options)
    else:
        sys.exit(supervise(options))


def download(folder: Path, python: str) -> None:
    """Download the wheels that the image lacks, in the pinned versions, for Linux on x86-64."""
    pins = re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    wanted = [f"{name}=={version}" for name, version in pins if name in MISSING]
    platforms = [f"--platform=manylinux{kind}_x86_64" for kind in ("2014", "_2_17", "_2_27", "_2_28")]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", f"--python-version={python}",
         *platforms, f"--dest={folder}", *wanted], check=True,
    )  # fmt: skip
    sizes = [path.stat().st_size for path in folder.glob("*.whl")]
    print(f"{folder}: {len(sizes)} wheels, {sum(sizes) / 1e6:.0f} MB, for Python {python}")


def install(folder: Path) -> None:
    """Install the wheels of a folder beside the environment, without a network."""
    target = tempfile.mkdtemp(prefix="wheels-")
    atexit.register(shutil.rmtree, target)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--disable-pip-version-check", f"--target={target}",
         *map(str, sorted(folder.glob("*.whl")))], check=True,
    )  # fmt: skip
    sys.path.insert(0, target)


TABLES = {
    "speed": ("Step and stream, images/s", [
        "batch", "resident batch", "real shards", f"share (aim {AIM})", "data alone", "peak GB", "model FLOP utilization",
    ]),
    "waiting": ("Waiting for the device, and copies", ["reads per step", "synchronizations per step", "share of copies beside kernels"]),
    "interruptions": ("Saving and validation", [
        "a save blocks, s", "until it is on the disk, s", "GB", "steps during saves / without", "validation, images/s",
    ]),
    "conventional": ("The conventional way: files, torchvision, DataLoader, float32", ["images/s", "ours / conventional"]),
    "resume": ("Resume", ["the same run twice", "stopped and resumed"]),
    "changes": ("One change at a time, on a resident batch", ["images/s", "changed / as configured"]),
}  # fmt: skip


def supervise(options: argparse.Namespace) -> int:
    """Measure each task in its own process, and write the tables after each row. Returns the exit code."""
    deadline, failed = time.monotonic() + options.limit, False
    rows: dict[str, list[str]] = {part: [] for part in TABLES}
    head = ""
    for number, task in enumerate(options.tasks):
        limit = max(0.0, deadline - time.monotonic()) / (len(options.tasks) - number)
        words = [word for name in ("device", "seconds", "workers") for word in (f"--{name}", str(vars(options)[name]))]
        words += ["--tiny"] * options.tiny + ["--task", task, "--limit", str(limit)]
        path = os.pathsep.join(filter(None, sys.path))
        child = subprocess.Popen(
            [sys.executable, __file__, *words],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert child.stdout is not None
        for line in child.stdout:
            found = json.loads(line)
            head = found.get("head", head)
            if "part" in found:
                failed |= found["failed"]
                rows[found["part"]].append(f"| {' | '.join([found['name'], *found['cells']])} |")
                print(f"{found['part']}: {rows[found['part']][-1]}", file=sys.stderr, flush=True)
            if options.out is not None:
                options.out.write_text(as_markdown(head, rows), encoding="utf-8")
        if child.wait():
            failed = True
            rows["speed"].append(f"| {task} | failed: see its messages |")
    print(as_markdown(head, rows))
    return int(failed)


def as_markdown(head: str, rows: dict[str, list[str]]) -> str:
    """The tables that have rows."""
    parts = [head]
    for part, (title, columns) in TABLES.items():
        if rows[part]:
            header = f"| profile | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}"
            parts.append("\n".join([f"### {title}\n", header, *rows[part]]))
    return "\n\n".join(parts) + "\n"


def measure(options: argparse.Namespace) -> None:
    """Measure everything for one task; print rows as JSON, as soon as there is one."""
    import torch

    out, sys.stdout = sys.stdout, sys.stderr
    begin = time.monotonic()

    def emit(part: str, name: str, work: Callable[[], list[object]], seconds: float = 0.0) -> None:
        """Print a row, if there is time for it; `seconds` are needed."""
        cells: list[object] = ["not reached"]
        failed = False
        if time.monotonic() - begin + seconds < options.limit:
            try:
                cells = work()
            except Exception as error:  # noqa: BLE001 - the other rows are worth having
                failed, cells = (
                    True,
                    [f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".replace("|", "/")],
                )
        texts = [f"{cell:,.4g}" if isinstance(cell, float) else "-" if cell is None else str(cell) for cell in cells]
        texts += [""] * (len(TABLES[part][1]) - len(texts))
        print(json.dumps({"part": part, "name": name, "cells": texts, "failed": failed}), file=out, flush=True)

    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    profile = "tiny" if options.tiny else "full"
    head = f"{name}, torch {torch.__version__}, {options.workers} workers, profiles `{profile}`, {options.seconds:g} s per measurement."
    print(json.dumps({"head": head}), file=out, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        study = Study(options, Path(folder))
        with study.rehearsal() as rehearsal:
            emit("speed", options.task, lambda: study.speed(rehearsal))
            emit("waiting", options.task, lambda: study.waiting(rehearsal))
            emit("interruptions", options.task, lambda: study.interruptions(rehearsal))
            emit("conventional", options.task, lambda: study.conventional(rehearsal))
        for settings in RESUMES:
            if options.task in ("category", "keypoints"):
                emit(
                    "resume",
                    f"{options.task}{' ' if settings else ''}{settings}",
                    lambda s=settings: study.resume(s),
                    20,
                )
        for change in CHANGES:
            if options.device == "cuda" or change in CPU_CHANGES:
                emit(
                    "changes",
                    f"{options.task}, {change}",
                    lambda c=change: study.changed(c),
                    60 if change == "compiled" else 5,
                )
        os.chdir("/")


# Settings of a run whose results are compared bit by bit.
RESUMES = ("", "--deterministic")
# Changes to what is configured: overrides, and keys of the optimizer's parameter groups.
CHANGES: dict[str, tuple[list[str], dict[str, bool]]] = {
    "optimizer not fused": ([], {"fused": False, "foreach": True}),
    "no moving average": (["fit.ema_decay=0"], {}),
    "no TF32": (["fit.tf32=false"], {}),
    "float32": (["fit.amp=none"], {}),
    "compiled": (["fit.compile=true"], {}),
}
CPU_CHANGES = ("optimizer not fused",)


def write_set(folder: Path, options: argparse.Namespace) -> Path:
    """Write a shard set with the labels of the published sets and synthetic images of their size; 4 images per item."""
    from tests.shard_sets import write_samples

    from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24
    from fschemas.shard import Sample
    from fschemas.vocabularies import vocabulary
    from ftrain.use.machine import jpeg_of

    side, size = (64, 2_000) if options.tiny else SIDES.get(options.task, SIDE)
    counts = {"train": 64, "val": 16} if options.tiny else {"train": 1024, "val": 256}
    landmarks = FASHIONAI_24 if options.task == "keypoints" else DEEPFASHION_8
    names = {
        "category": "deepfashion-category-50",
        "attributes": "deepfashion-attribute-1000",
        "style": "kfashion-style-24",
    }
    labels = {purpose: vocabulary(name).to_json() for purpose, name in names.items()}
    jpeg, garments = jpeg_of(side, size), list(landmarks.garments)

    def sample(number: int, split: str) -> Sample:
        item, low, high = f"item-{split}-{number // 4}", side / 4, 3 * side / 4
        valid = set(landmarks.valid_landmarks(garments[number % len(garments)]))
        points = range(len(landmarks))
        note = {
            "key": f"{split}{number:05d}", "split": split, "group": item, "width": side, "height": side, "image": f"{number}.jpg", "copy": 0,
            "garment": garments[number % len(garments)], "item": item, "substyle": "", "box": [low / 2, low / 2, high, high],
            "landmark_x": [low + (high - low) * (7 * point % 5) / 4 if point in valid else 0.0 for point in points],
            "landmark_y": [low + (high - low) * (3 * point % 7) / 6 if point in valid else 0.0 for point in points],
            "landmark_visibility": [2 if point in valid else -1 for point in points],
            "category": labels["category"]["values"][number // 4 % 50], "style": labels["style"]["values"][number // 4 % 24],
            "attributes_positive": sorted({number // 4 % 1000, 7 * number // 4 % 1000}), "attributes_unknown": [],
        }  # fmt: skip
        return Sample(note["key"], jpeg, note)

    samples = {split: [sample(number, split) for number in range(count)] for split, count in counts.items()}
    groups = ["category", "attributes", "box", "landmarks", "item", "style"]
    return write_samples(folder, samples, landmarks, groups, labels, shard_samples=256)


class Study:
    """The measurements of a task; each returns the cells of a row."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        import torch

        self.options, self.task, self.folder = options, options.task, folder
        self.device = torch.device(options.device)
        self.shards = write_set(folder / "shards", options)
        self.base = 0.0  # rate of the steps on a resident batch, as configured
        self.batch: dict[str, Any] = {}

    def settings(self, *more: str) -> tuple[str, ...]:
        """Overrides: random weights, and in small, small images and batches."""
        from ftrain.fit.config import config_class

        weights = [name for name in config_class(self.task).model_fields if name.endswith("weights")]
        small = ["model.input_size=64", "fit.batch_size=16", "fit.sampler=shuffled"] if self.options.tiny else []
        return (*(f"model.{name}=none" for name in weights), *small, *more)

    @contextmanager
    def rehearsal(self, *more: str, workers: int | None = None) -> Iterator[Any]:
        """A rehearsal of the run, with further overrides; by default with the workers of the options."""
        from ftrain.use.rehearsal import PlanOptions, rehearsal_of

        options = PlanOptions(
            str(self.shards), ROOT / "params.yaml", "tiny" if self.options.tiny else "full", self.settings(*more),
            workers=self.options.workers if workers is None else workers, device=self.options.device,
        )  # fmt: skip
        with rehearsal_of(self.task, options) as rehearsal:
            yield rehearsal

    def speed(self, rehearsal: Any) -> list[object]:
        """Rates of the steps on a resident batch and on real shards, in turn, and of the data alone."""
        import torch

        seconds, rounds = self.options.seconds / 3, 3
        self.batches = rehearsal.pool.training(range(10**9), self.device)
        alone, self.batch = rehearsal.stream_rate(self.batches, self.options.seconds)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rehearsal.step_rate(-1, self.batch, 0.0)  # tunes kernels
        rates = [
            (rehearsal.step_rate(-1, self.batch, seconds), self.real_rate(rehearsal, seconds)) for _ in range(rounds)
        ]
        resident, real = (sorted(column)[rounds // 2] for column in zip(*rates, strict=True))
        peak = torch.cuda.max_memory_allocated() / 1e9 if self.device.type == "cuda" else None
        self.base = resident
        return [len(self.batch["row"]), resident, real, real / resident, alone, peak, self.utilization(rehearsal)]

    def real_rate(self, rehearsal: Any, seconds: float) -> float:
        """Rate of training on the stream, as the loop does, once the batches that are ready are used up."""
        for _ in range(4):
            rehearsal.train_on(next(self.batches))
        images = 0

        def work() -> None:
            nonlocal images
            start = time.perf_counter()
            while time.perf_counter() - start < seconds or not images:
                batch = next(self.batches)
                rehearsal.train_on(batch)
                images += len(batch["row"])

        seconds_spent = rehearsal.seconds(work)
        return images / seconds_spent

    def utilization(self, rehearsal: Any) -> float | None:
        """Floating-point operations of a step, forward and backward, as a share of what the GPU can do in bfloat16."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        if self.device.type == "cpu":
            return None
        with FlopCounterMode(display=False) as counter:
            rehearsal.train_on(self.batch)
        name = torch.cuda.get_device_name()
        peak = next((rate for key, rate in PEAK.items() if key in name), None)
        return None if peak is None else counter.get_total_flops() * self.base / len(self.batch["row"]) / peak

    def waiting(self, rehearsal: Any) -> list[object]:
        """Reads from the device and synchronizations per step, and the share of copies that run beside kernels."""
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        class Reads(TorchDispatchMode):
            count = 0

            def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                Reads.count += any(name in str(function) for name in READS)
                return function(*args, **(kwargs or {}))

        with Reads():
            rehearsal.train_on(self.batch)
        if self.device.type == "cpu":
            return [Reads.count, None, None]
        steps = 5
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                for _ in range(steps):
                    rehearsal.train_on(self.batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits = sum("synchroniz" in str(warning.message) for warning in told) / steps
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            for _ in range(steps):
                rehearsal.train_on(next(self.batches))
            torch.cuda.synchronize()
        return [Reads.count, waits, overlap(profiler.events())]

    def interruptions(self, rehearsal: Any) -> list[object]:
        """What a save and a validation cost: steps are trained while a checkpoint is written."""
        blocks, writes, size = rehearsal.saving()
        quiet = rehearsal.step_rate(-1, self.batch, self.options.seconds)
        rehearsal.state.step += 1
        rehearsal._save()  # noqa: SLF001 - the save goes on while steps are measured
        beside = rehearsal.step_rate(-1, self.batch, max(0.1, min(writes, self.options.seconds)))
        rehearsal._finish_save()  # noqa: SLF001
        validation = rehearsal.validation_rate(len(self.batch["row"]), self.options.seconds / 2)
        return [blocks, writes, size / 1e9, beside / quiet, validation]

    def conventional(self, rehearsal: Any) -> list[object]:
        """Train the same network in float32 on image files through torchvision's transforms and a DataLoader.

        The labels are those of one batch, which is less work than transforming them.
        """
        import torch

        from fschemas.shard_set import ShardSet

        files = self.folder / "files"
        files.mkdir()
        shards = ShardSet.open(self.shards)
        paths = [files / f"{number}.jpg" for number in range(4 * len(self.batch["row"]))]
        for number, path in enumerate(paths):
            path.write_bytes(shards.read(number % len(shards))[0])
        loader = torch.utils.data.DataLoader(
            ImageFiles(paths, self.batch["image"].shape[1]), batch_size=len(self.batch["row"]), shuffle=True, drop_last=True,
            num_workers=0 if self.options.tiny else self.options.workers, pin_memory=self.device.type == "cuda",
        )  # fmt: skip
        task = rehearsal.task.train()
        optimizer = torch.optim.AdamW(task.parameters(), lr=1e-12)
        images = 0

        def epoch() -> None:
            nonlocal images
            for loaded in loader:
                optimizer.zero_grad()
                loss = task({**self.batch, "image": loaded.to(self.device)})["loss"]
                loss.backward()
                optimizer.step()
                float(loss.detach())
                images += len(loaded)

        rehearsal.seconds(epoch)  # starts workers and tunes kernels
        images, spent = 0, 0.0
        while spent < self.options.seconds:
            spent += rehearsal.seconds(epoch)
        return [images / spent, self.base * spent / images]

    def resume(self, setting: str) -> list[object]:
        """Whether two runs have the same bits, and whether a stopped and resumed run has those of the first."""
        from ftrain.fit.train import TrainOptions, train

        overrides = self.settings("fit.checkpoint_every_steps=4")
        options = TrainOptions(
            str(self.shards), Path("run"), ROOT / "params.yaml", "tiny" if self.options.tiny else "full", overrides,
            workers=0, device=self.options.device, trackers=("none",), deterministic=bool(setting),
        )  # fmt: skip
        digests: list[str] = []
        for name, limits in {"first": [8], "second": [8], "resumed": [4, 8]}.items():
            run = self.folder / f"{name}{setting}"
            for limit in limits:
                train(self.task, dataclasses.replace(options, run=run, limit_steps=limit))
            state = json.loads((run / "checkpoints/step-00000008/state.json").read_text(encoding="utf-8"))
            digests.append(json.dumps(state["digests"], sort_keys=True))
        return ["same bits" if digests[0] == digest else "DIFFERENT" for digest in digests[1:]]

    def changed(self, change: str) -> list[object]:
        """Rate of the steps with one change."""
        overrides, groups = CHANGES[change]
        with self.rehearsal(*overrides, workers=0) as rehearsal:
            if groups:
                rehearsal.optimizer.register_step_pre_hook(forget_guard)
            for group in rehearsal.optimizer.param_groups:
                group.update(groups)
            rate = rehearsal.step_rate(-1, self.batch, self.options.seconds)
        return [rate, rate / self.base]


def forget_guard(optimizer: Any, *_: object) -> None:
    """Let an optimizer step whatever the values are: only fused kernels know the guard against NaN."""
    vars(optimizer).pop("found_inf", None)


class ImageFiles:
    """Images of a folder, augmented as usual: resized, moved, flipped and with other colors; uint8 S, S, 3."""

    def __init__(self, paths: list[Path], size: int) -> None:
        from torchvision.transforms import v2

        self.paths = paths
        self.transforms = v2.Compose([
            v2.Resize((size, size)), v2.RandomAffine(15, (0.08, 0.08), (0.8, 1.25)), v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3, 0.3),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        import numpy as np
        import torch
        from PIL import Image

        return torch.from_numpy(np.array(self.transforms(Image.open(self.paths[number]).convert("RGB"))))


def overlap(events: Any) -> float | None:
    """Share of the time of copies to the device during which a kernel runs; None without copies."""
    from torch.autograd import DeviceType

    spans: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for event in events:
        if event.device_type == DeviceType.CUDA and "Memset" not in event.name:
            spans["Memcpy HtoD" in event.name].append((event.time_range.start, event.time_range.end))
    kernels: list[tuple[float, float]] = []
    for start, end in sorted(spans[False]):
        if kernels and start <= kernels[-1][1]:
            kernels[-1] = kernels[-1][0], max(end, kernels[-1][1])
        else:
            kernels.append((start, end))
    copied = sum(end - start for start, end in spans[True])
    beside = sum(max(0.0, min(end, last) - max(start, first)) for start, end in spans[True] for first, last in kernels)
    return beside / copied if copied else None


if __name__ == "__main__":
    main()
