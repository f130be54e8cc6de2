"""`ftrain doctor`: facts about this machine, what will get in the way of training, and recommended settings."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from textwrap import wrap
from typing import Any, Literal, get_args

import numpy as np
import simplejpeg

from fschemas.cores import data_workers
from fschemas.shard_set import ShardSet
from fschemas.wording import count, gigabytes
from ftrain.data.config import ViewConfig
from ftrain.data.remote import open_shards
from ftrain.fit.config import config_class, load_config
from ftrain.reports.text_table import WIDTH, aligned, labeled
from ftrain.use.batch_size import FULL_PROFILES, BatchAdvice, advise_batch
from ftrain.use.machine import decode_rate, machine_facts

Severity = Literal["problem", "warning", "note"]
_LITTLE_SPACE = 10e9  # bytes on the disk; a checkpoint of `fashionnet full` has 3 GB
_LITTLE_MEMORY = 2e9  # bytes
_SLOW_WRITING = 100e6  # bytes per second
_SHARED_FOR_NCCL = 500e6  # bytes
_SAMPLES = 32  # images of a shard set whose decoding is measured


@dataclass(frozen=True)
class Finding:
    """A "problem" makes training impossible, a "warning" makes it slow or likely to fail, a "note" is information."""

    severity: Severity
    code: str
    message: str


@dataclass(frozen=True)
class TaskAdvice:
    """Settings for a task on a device.

    `size` is the long side to which `fprep shard --size` may shrink images without loss; None for a task that crops.
    `batch` is None if the device is too small, or for a CPU, where the profile's own batch is best.
    """

    task: str
    input_size: int
    size: int | None
    batch: BatchAdvice | None


@dataclass
class Checkup:
    """The result: `facts` by section, `findings`, and recommended settings for a device."""

    facts: dict[str, Any]
    findings: list[Finding]
    device: dict[str, Any]
    profile: str
    workers: int
    tasks: list[TaskAdvice]

    @property
    def problems(self) -> list[str]:
        """What makes training impossible."""
        return [finding.message for finding in self.findings if finding.severity == "problem"]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        tasks = [asdict(task) for task in self.tasks]
        advice = {"device": self.device["device"], "profile": self.profile, "workers": self.workers, "tasks": tasks}
        return {**self.facts, "findings": [vars(finding) for finding in self.findings], "recommended": advice}

    def to_text(self) -> str:
        """Return the report for a terminal of 80 columns."""
        lines = [line for label, text in _facts_as_text(self.facts) for line in labeled(label, text)]
        if self.findings:
            lines += ["", "findings"]
            order = get_args(Severity)
            for finding in sorted(self.findings, key=lambda finding: order.index(finding.severity)):
                lines += labeled(f"  {finding.severity}", finding.message)
        command = (
            f"--device {self.device['device'].partition(':')[0]} --profile {self.profile} --workers {self.workers}"
        )
        lines += ["", f"recommended: {command}, and", *self._table(), ""]
        lines += wrap(
            "Rates are estimates from a fraction of a second each; `ftrain plan` measures a task on your data.", WIDTH
        )
        return "\n".join(lines)

    def _table(self) -> Iterator[str]:
        """Yield the recommended settings of the tasks, aligned."""
        is_gpu = self.device["device"] != "cpu"
        rows = [("", "input", "fprep shard", *(("batch_size", "micro_batches", "learning_rate") if is_gpu else ()))]
        for task in self.tasks:
            size = "original size" if task.size is None else f"--size {task.size}"
            batch = task.batch
            settings = (f"{batch.batch_size}", f"{batch.micro_batches}", f"{batch.learning_rate:.2g}") if batch else ()
            rows.append((task.task, f"{task.input_size} px", size, *(settings or (("too large",) if is_gpu else ()))))
        yield from ("  " + line for line in aligned(rows))


def doctor(folder: Path, shards: str | None = None) -> Checkup:
    """Examine this machine, with the disk of `folder` and, if given, the images of a shard set.

    Raises the errors of `open_shards` for a set that cannot be opened.
    """
    opened = open_shards(shards) if shards is not None else None
    facts = machine_facts(folder)
    gpus = [device for device in facts["devices"] if "memory" in device and not device["problem"]]
    device = gpus[0] if gpus else facts["devices"][0]
    profile = "full" if gpus else "tiny"
    workers = data_workers(facts["cores"]["usable"] // max(1, len(gpus)), gpu=bool(gpus))
    tasks = [_advise(task, profile, device.get("memory")) for task in FULL_PROFILES]
    findings = list(_findings(facts))
    if opened is not None:
        facts["shards"] = _shard_facts(opened)
        findings += _findings_of_shards(facts["shards"], tasks)
    return Checkup(facts, findings, device, profile, workers, tasks)


def _advise(task: str, profile: str, memory: float | None) -> TaskAdvice:
    config = load_config(task, None, profile, [])
    view = config_class(task)(**config.model)
    assert isinstance(view, ViewConfig)
    batch = None if memory is None else advise_batch(FULL_PROFILES[task], memory, config.fit)
    return TaskAdvice(task, view.input_size, sufficient_size(view), batch)


def sufficient_size(view: ViewConfig) -> int | None:
    """Long side of stored images of which augmentation enlarges none, a multiple of 32; None for crops, which vary."""
    return None if view.crop != "image" else 32 * math.ceil(view.input_size * max(1.0, view.scale[1]) / 32)


def long_side(shards: ShardSet) -> int:
    """Median long side of a few stored images, pixels."""
    return _long_side(_sample(shards))


def _long_side(jpegs: list[bytes]) -> int:
    return int(median(max(int(side) for side in simplejpeg.decode_jpeg_header(jpeg)[:2]) for jpeg in jpegs))


def _sample(shards: ShardSet) -> list[bytes]:
    rows = np.unique(np.linspace(0, len(shards) - 1, _SAMPLES).astype(int))
    return [shards.read(int(row))[0] for row in rows]


def _shard_facts(shards: ShardSet) -> dict[str, Any]:
    """Size of the stored images and the rate of decoding them, from a few that are evenly spaced."""
    jpegs = _sample(shards)
    return {
        "location": shards.location, "samples": len(shards), "long_side": _long_side(jpegs), **decode_rate(jpegs)
    }  # fmt: skip


def _findings_of_shards(facts: dict[str, Any], tasks: list[TaskAdvice]) -> Iterator[Finding]:
    largest = max(task.size or 0 for task in tasks)
    if facts["long_side"] > 1.5 * largest:
        message = (
            f"{facts['location']}: its images have {facts['long_side']} px; for smaller inputs, resize them once with "
            "`fprep shard --size`, as below, and decoding takes a fraction of the time"
        )
        yield Finding("note", "large-images", message)


def _findings(facts: dict[str, Any]) -> Iterator[Finding]:
    cores, memory, disk, openmp = (facts[name] for name in ("cores", "memory", "disk", "openmp"))
    if cores["quota"] is not None and cores["quota"] < cores["visible"]:
        message = f"the container may use {cores['quota']:g} of {cores['visible']} cores; other programs may start one thread per core"
        yield Finding("note", "quota", message)
    if memory["available"] < _LITTLE_MEMORY:
        message = f"only {gigabytes(memory['available'])} of memory available; training takes 2 GB or more"
        yield Finding("warning", "memory", message)
    if disk["problem"]:
        message = f"{disk['folder']}: cannot be written ({disk['problem']}); run in another folder"
        yield Finding("problem", "disk", message)
    elif disk["free"] < _LITTLE_SPACE:
        message = f"{disk['folder']}: only {gigabytes(disk['free'])} free; a checkpoint of a large model has 3 GB"
        yield Finding("warning", "space", message)
    elif disk["write_rate"] < _SLOW_WRITING:
        yield Finding("warning", "slow-disk", f"{disk['folder']}: writes only {disk['write_rate'] / 1e6:.0f} MB/s")
    yield from _findings_of_devices(facts)
    if _spins(openmp):
        message = "waiting OpenMP threads spin and keep other processes off the cores; unset OMP_WAIT_POLICY, GOMP_SPINCOUNT and KMP_BLOCKTIME"
        yield Finding("warning", "spinning", message)
    if openmp["threads"] > cores["usable"]:
        message = (
            f"OMP_NUM_THREADS={openmp['OMP_NUM_THREADS']} is more than the {cores['usable']} usable cores; unset it"
        )
        yield Finding("warning", "threads", message)
    for extra, modules in facts["missing_extras"].items():
        yield Finding("note", "extra", f'without {", ".join(modules)}: pip install "fashionkit[{extra}]"')


def _findings_of_devices(facts: dict[str, Any]) -> Iterator[Finding]:
    gpus = [device for device in facts["devices"] if "memory" in device]
    for device in facts["devices"]:
        if device["problem"]:
            severity = "problem" if device["device"] == "cpu" else "warning"
            yield Finding(severity, "device", f"{device['device']} ({device['name']}): {device['problem']}")
    if not gpus and not any(device["problem"] for device in facts["devices"]):
        yield Finding(
            "note", "no-gpu", "torch finds no GPU: train the profiles `tiny`; `full` takes days to weeks on a CPU"
        )
    for device in gpus:
        if not device["bf16"]:
            message = f"{device['device']} has no bfloat16; train with --amp fp16"
            yield Finding("warning", "bf16", message)
    shared = facts["memory"]["shared_free"]
    if len(gpus) > 1 and shared is not None and shared < _SHARED_FOR_NCCL:
        message = f"only {gigabytes(shared)} of shared memory, which NCCL needs for several GPUs; start the container with --shm-size=1g"
        yield Finding("warning", "shared-memory", message)


def _spins(openmp: dict[str, Any]) -> bool:
    """Whether OpenMP threads are set to spin while waiting. ftrain turns it off unless one of the variables is set."""
    if (openmp["OMP_WAIT_POLICY"] or "").upper() == "PASSIVE":
        return False
    return openmp["GOMP_SPINCOUNT"] != "0" and openmp["KMP_BLOCKTIME"] != "0"


def _facts_as_text(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every fact."""
    cores, memory, disk, software = (facts[name] for name in ("cores", "memory", "disk", "software"))
    quota = "" if cores["quota"] is None else f", quota {cores['quota']:g}"
    yield "cores", f"{cores['usable']} usable of {cores['visible']}{quota}; {cores['model']}"
    shared = "" if memory["shared_free"] is None else f"; /dev/shm {gigabytes(memory['shared_free'])} free"
    yield "memory", f"{gigabytes(memory['available'])} available of {gigabytes(memory['total'])}{shared}"
    own = [facts["shards"]] if "shards" in facts else []
    for number, images in enumerate([*facts["decoding"], *own]):
        pixels = images.get("pixels") or f"{images['location']}: {images['long_side']}"
        text = (
            f"{images['images_per_core_second']:,.0f} images/s per core ({pixels} px, {images['bytes'] / 1e3:.0f} KB)"
        )
        yield "" if number else "decoding", text
    rates = "" if disk["problem"] else (
        f"; writes {disk['write_rate'] / 1e6:,.0f} MB/s, reads {disk['read_rate'] / 1e6:,.0f} MB/s, fsync {1e3 * disk['sync_seconds']:.1f} ms"
    )  # fmt: skip
    yield "disk", f"{gigabytes(disk['free'])} free in {disk['folder']}{rates}"
    for device in facts["devices"]:
        yield device["device"], _device_as_text(device)
    libraries = {"CUDA": "cuda", "cuDNN": "cudnn", "NCCL": "nccl", "driver": "driver"}
    built = ", ".join(f"{name} {software[key]}" for name, key in libraries.items() if software[key])
    yield "torch", f"{software['torch']} ({built or 'CPU only'})"
    others = {
        "torchvision": "torchvision",
        "timm": "timm",
        "simplejpeg": "simplejpeg",
        "OpenCV": "opencv-python-headless",
        "Python": "python",
    }
    yield "versions", ", ".join(f"{name} {software[key] or 'missing'}" for name, key in others.items())
    openmp = facts["openmp"]
    yield "OpenMP", f"{count(openmp['threads'], 'thread')}; waiting threads {'spin' if _spins(openmp) else 'sleep'}"


def _device_as_text(device: dict[str, Any]) -> str:
    if device["problem"]:
        return f"{device['name']}; cannot be used"
    memory = f", {gigabytes(device['free'])} free of {gigabytes(device['memory'])}" if "memory" in device else ""
    rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {dtype}" for dtype, rate in device["flops"].items())
    return f"{device['name']}{memory}; matrix products {rates}"
