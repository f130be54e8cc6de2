"""What a run will take, computed from the rates of a few seconds: the arithmetic and the text of `ftrain plan`.

Sizes are in bytes, times in seconds, rates in images per second of one process.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any

from fschemas.wording import count, gigabytes
from ftrain.data.config import FitConfig
from ftrain.reports.text_table import WIDTH, labeled
from ftrain.use.batch_size import CARDS, BatchAdvice, Footprint, advise_batch

_NEARLY = 0.95  # of the rate needed: neither side waits for the other
_SPARE = 1.2  # times the workers that suffice
_MAX_SAVING, _MAX_VALIDATION = 0.05, 0.25  # shares of the time, beyond which a rarer interval is proposed


@dataclass(frozen=True)
class Schedule:
    """What a run consists of. `stages` are the shares of the steps; the sizes of batches count one process."""

    task: str
    profile: str
    batch_size: int
    steps_per_epoch: int
    num_steps: int
    stages: tuple[float, ...]
    validation_images: int
    validate_every: int  # steps
    checkpoint_every: int  # steps
    checkpoints_kept: int

    @property
    def validations(self) -> int:
        """How often the run validates: after the last step, too."""
        return -(-self.num_steps // self.validate_every) if self.validation_images else 0

    @property
    def saves(self) -> int:
        """How often the run saves: at its interval, before each validation, and after the last step."""
        last, every = self.num_steps, [self.checkpoint_every]
        every += [self.validate_every] if self.validation_images else []
        both = last // math.lcm(*every) if len(every) == 2 else 0
        return sum(last // steps for steps in every) - both + all(last % steps for steps in every)


@dataclass(frozen=True)
class Machine:
    """Where the run is measured. `memory` is that of the GPU, None for a CPU; `free_memory` is that of the host."""

    device: str
    cores: int
    workers: int
    threads: int
    free_disk: int
    free_memory: int
    memory: int | None = None


@dataclass(frozen=True)
class Rates:
    """What was measured, within `seconds`. `steps` has one rate per stage, of steps of `images_per_step`."""

    seconds: float
    first_batch: float  # seconds until it arrived
    stream: float
    steps: tuple[float, ...]
    images_per_step: int
    validation: float | None
    save_blocks: float  # seconds that a step waits for a save
    save_writes: float  # seconds until a checkpoint is on the disk
    checkpoint_bytes: int
    process_bytes: int
    worker_bytes: int
    device_bytes: int | None


@dataclass(frozen=True)
class Forecast:
    """The prediction for a run, derived from what was measured."""

    schedule: Schedule
    machine: Machine
    rates: Rates
    fit: FitConfig
    footprint: Footprint | None  # None if the loss cannot be traced
    resize_to: int | None  # long side of stored images that suffices, if they are larger

    @property
    def step_rate(self) -> float:
        """Rate of the steps alone: of all stages, by their shares."""
        return 1 / sum(share / rate for share, rate in zip(self.schedule.stages, self.rates.steps, strict=True))

    def together(self, other: float) -> float:
        """Rate at which the stream and steps (or predictions) of rate `other` advance together.

        The slower one decides. On a CPU, both also share the cores. Without workers, they take turns.
        """
        stream, machine = self.rates.stream, self.machine
        if machine.workers == 0:
            return 1 / (1 / stream + 1 / other)
        if machine.device != "cpu":
            return min(stream, other)
        cores = min(machine.workers, machine.cores) / stream + min(machine.threads, machine.cores) / other
        return min(stream, other, machine.cores / cores)

    @property
    def rate(self) -> float:
        """Rate of training, without validation and checkpoints."""
        return self.together(self.step_rate)

    @property
    def bottleneck(self) -> str:
        """What limits the rate: `data`, `step`, or `cores` that both share."""
        if self.rate < _NEARLY * min(self.rates.stream, self.step_rate):
            return "cores"
        return "data" if self.rates.stream < self.step_rate else "step"

    @property
    def parts(self) -> dict[str, float]:
        """Seconds of the whole run by part."""
        schedule, rates = self.schedule, self.rates
        interval = schedule.checkpoint_every * schedule.batch_size / self.rate
        saving = rates.save_blocks + max(0.0, rates.save_writes - interval)  # one save waits for the previous one
        validated = schedule.validations * schedule.validation_images
        return {
            "training": schedule.num_steps * schedule.batch_size / self.rate,
            "validation": validated / self.together(rates.validation) if rates.validation else 0.0,
            "checkpoints": schedule.saves * saving,
        }

    @property
    def seconds(self) -> float:
        """Duration of the run."""
        return sum(self.parts.values())

    @property
    def disk_bytes(self) -> int:
        """Largest size of the run folder: the newest checkpoints, the best, and the one that is being written."""
        stored = min(self.schedule.checkpoints_kept + 2, self.schedule.saves + 1)
        return stored * self.rates.checkpoint_bytes

    @property
    def host_bytes(self) -> int:
        """Peak memory of all processes; batches that were too large to measure are added by the footprint."""
        unmeasured = max(0, self.schedule.batch_size // self.fit.micro_batches - self.rates.images_per_step)
        added = unmeasured * self.footprint.bytes_per_image if self.footprint and self.machine.memory is None else 0
        return self.rates.process_bytes + added + self.machine.workers * self.rates.worker_bytes

    @property
    def advice(self) -> list[str]:
        """What to change, one sentence each."""
        return [*self._about_rate(), *self._about_time(), *self._about_space(), *self._about_batches()]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "estimate_from_seconds": self.rates.seconds, "schedule": asdict(self.schedule), "machine": asdict(self.machine),
            "measured": asdict(self.rates), "stream_rate": self.rates.stream, "step_rate": self.step_rate, "rate": self.rate,
            "bottleneck": self.bottleneck, "seconds": self.seconds, "seconds_by_part": self.parts,
            "seconds_per_epoch": self.seconds * self.schedule.steps_per_epoch / self.schedule.num_steps,
            "disk_bytes": self.disk_bytes, "host_bytes": self.host_bytes, "device_bytes": self.rates.device_bytes,
            "footprint": asdict(self.footprint) if self.footprint else None, "advice": self.advice,
        }  # fmt: skip

    def to_text(self) -> str:
        """Return the report for a terminal of 80 columns."""
        schedule, rates, machine = self.schedule, self.rates, self.machine
        epochs = schedule.num_steps / schedule.steps_per_epoch
        lines = wrap(
            f"{schedule.task}, {schedule.profile}, on {machine.device}: {count(schedule.num_steps, 'step')} of {schedule.batch_size} images, "
            f"{epochs:g} epochs. An estimate from {rates.seconds:.0f} seconds of measuring; other work on this machine changes it.",
            WIDTH,
        )  # fmt: skip
        for label, text in self._facts():
            lines += labeled(label, text)
        if advice := self.advice:
            lines += ["", "to change"]
            lines += [line for sentence in advice for line in labeled("  -", sentence, 4)]
        return "\n".join(lines)

    def _facts(self) -> Iterator[tuple[str, str]]:
        schedule, rates, machine = self.schedule, self.rates, self.machine
        yield "", ""
        source = count(machine.workers, "worker") if machine.workers else "this process"
        yield "data", f"{rates.stream:,.0f} images/s from {source}; the first batch after {rates.first_batch:.1f} s"
        stages = f" (by stage: {', '.join(f'{rate:,.4g}' for rate in rates.steps)})" if len(rates.steps) > 1 else ""
        part = rates.images_per_step
        smaller = f"; measured on batches of {part}" if part < schedule.batch_size else ""
        yield "step", f"{self.step_rate:,.4g} images/s{stages}{smaller}"
        yield "together", f"{self.rate:,.4g} images/s: {self._why()}"
        shares = ", ".join(f"{name} {seconds / self.seconds:.0%}" for name, seconds in self.parts.items())
        epoch = duration(self.seconds * schedule.steps_per_epoch / schedule.num_steps)
        yield "time", f"{epoch} per epoch, {duration(self.seconds)} in all: {shares}"
        stored = self.disk_bytes // max(1, rates.checkpoint_bytes)
        yield (
            "disk",
            f"{gigabytes(self.disk_bytes)}: {count(stored, 'checkpoint')} of {gigabytes(rates.checkpoint_bytes)}",
        )
        workers = f", of which each worker {gigabytes(rates.worker_bytes)}" if machine.workers else ""
        yield "memory", f"{gigabytes(self.host_bytes)}{workers}"
        if machine.memory is not None and rates.device_bytes is not None:
            yield machine.device, f"{gigabytes(rates.device_bytes)} of {gigabytes(machine.memory)}"

    def _why(self) -> str:
        stream, step = self.rates.stream, self.step_rate
        faster = max(stream, step) / min(stream, step)
        if self.bottleneck == "cores":
            return (
                "data and step share the cores" if self.machine.workers else "without workers, data and step take turns"
            )
        slow, fast = ("data", "the step") if self.bottleneck == "data" else ("the step", "data")
        return f"{slow} is the bottleneck, {fast} is {faster:.1f} times faster"

    def _about_rate(self) -> Iterator[str]:
        workers, cores = self.machine.workers, self.machine.cores
        enough = math.ceil(_SPARE * max(1, workers) * self.step_rate / self.rates.stream)
        spare = max(1, cores - 1)
        if self.bottleneck == "data" or (self.bottleneck == "cores" and workers == 0):
            if workers < min(enough, spare):
                yield f"use more workers: --workers {min(enough, spare)} on the {cores} cores here"
            if self.resize_to is not None:
                yield f"store smaller images, which decode faster: fprep shard --size {self.resize_to}"
            if enough > spare:
                yield f"the step could take {self.step_rate / self.rates.stream:.1f} times as much data as {workers} workers give; {enough} cores would do"
        elif self.machine.device == "cpu" and enough < workers:
            yield f"fewer workers leave more cores to the step: --workers {enough}"

    def _about_time(self) -> Iterator[str]:
        saving, validation = (self.parts[name] / self.seconds for name in ("checkpoints", "validation"))
        if saving > _MAX_SAVING:
            schedule, rarer = self.schedule, saving / _MAX_SAVING
            change = f"fit.checkpoint_every_steps={math.ceil(schedule.checkpoint_every * rarer)}"
            if schedule.validations and schedule.validate_every <= schedule.checkpoint_every:  # each of them saves
                change = f"fit.validate_every_epochs={self.fit.validate_every_epochs * rarer:.2g}"
            yield f"checkpoints take {saving:.0%} of the time: --set {change}"
        if validation > _MAX_VALIDATION:
            rarer = self.fit.validate_every_epochs * validation / _MAX_VALIDATION
            yield f"validation takes {validation:.0%} of the time: --set fit.validate_every_epochs={rarer:.2g}"

    def _about_space(self) -> Iterator[str]:
        machine = self.machine
        if self.disk_bytes > machine.free_disk:
            yield (
                f"the run needs {gigabytes(self.disk_bytes)} on the disk, and {gigabytes(machine.free_disk)} are free here: "
                "choose another disk, or keep fewer checkpoints (fit.keep_checkpoints)"
            )
        if self.host_bytes > machine.free_memory:
            yield (
                f"the run needs {gigabytes(self.host_bytes)} of memory, and {gigabytes(machine.free_memory)} are available: "
                "use fewer workers, a smaller fit.batch_size or more fit.micro_batches"
            )

    def _about_batches(self) -> Iterator[str]:
        if self.footprint is None:
            return
        if self.machine.memory is not None:
            advice = advise_batch(self.footprint, self.machine.memory, self.fit)
            if (
                advice is None
                or advice.batch_size != self.fit.batch_size
                or advice.micro_batches > self.fit.micro_batches
            ):
                yield f"batch for this GPU, by the rule of docs/gpus.md: {_batch(advice)}"
        elif self.fit.amp != "none":
            cards = ((size, advise_batch(self.footprint, size * 1e9, self.fit)) for size in CARDS)
            batches = "; ".join(f"{size} GB: {_batch(advice)}" for size, advice in cards)
            yield f"batch for a GPU, by the rule of docs/gpus.md: {batches}"


def _batch(advice: BatchAdvice | None) -> str:
    if advice is None:
        return "the model is too large"
    parts = f" micro_batches={advice.micro_batches}" if advice.micro_batches > 1 else ""
    return f"batch_size={advice.batch_size}{parts} learning_rate={advice.learning_rate:.2g}"


def duration(seconds: float) -> str:
    """Format a time in its largest fitting unit."""
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {name}"
    return f"{seconds:.0f} seconds"
