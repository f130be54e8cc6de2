"""`ftrain plan`: measure the real path of a run for a few seconds, without leaving a run folder.

The stream of the data workers alone; the step of the `Trainer` on one of its batches, in each stage; a save; and
predictions on a validation batch. The learning rate is almost zero, so that repeating a batch does not diverge.
"""

import math
import resource
import shutil
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from fschemas.cores import available_cores
from fschemas.publish import remove_leftovers_of, temporary_of
from ftrain.data.config import RunConfig, ViewConfig
from ftrain.data.stream import Batch
from ftrain.fit.config import load_config
from ftrain.fit.distributed import Processes, one_process, workers_or_default
from ftrain.fit.loop import Trainer
from ftrain.fit.numerics import set_numerics
from ftrain.fit.optimization import autocast
from ftrain.fit.preflight import check_data, check_network, example_batch
from ftrain.fit.run_data import RunData, RunPool, Transforms, open_run_data, renders_on_device
from ftrain.fit.step_values import MOST_PENDING
from ftrain.fit.tracking import Trackers
from ftrain.use.batch_size import Footprint, kept_together, measure_footprint
from ftrain.use.doctor import long_side, sufficient_size
from ftrain.use.forecast import Forecast, Machine, Rates, Schedule
from ftrain.use.machine import memory_facts

_STREAM, _STEPS, _VALIDATION = 0.4, 0.5, 0.1  # shares of the time
_TINY_RATE = 1e-12
_MUCH_LARGER = 1.5  # times the side that suffices, for images that are worth resizing


@dataclass(frozen=True)
class PlanOptions:
    """Command-line options besides the configuration."""

    shards: str
    params: Path | None = None
    profile: str | None = None
    overrides: tuple[str, ...] = ()
    section: str | None = None
    workers: int | None = None  # None: `workers_or_default`
    threads: int | None = None
    device: str = "auto"
    transforms: Transforms = "auto"
    seconds: float = 10.0


def plan(task_name: str, options: PlanOptions) -> Forecast:
    """Measure a run for about `options.seconds` and predict the whole. Raises the errors that training would raise.

    A checkpoint is written to a temporary folder in the current one.
    """
    with rehearsal_of(task_name, options) as rehearsal:
        data, config, device = rehearsal.data, rehearsal.config, rehearsal.processes.device
        rates = rehearsal.measure(options.seconds)
        memory = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else None
        machine = Machine(
            str(device), available_cores(), rehearsal.pool.workers, torch.get_num_threads(), shutil.disk_usage(rehearsal.folder).free,
            memory_facts()["available"] + rates.process_bytes, memory,
        )  # fmt: skip
        footprint = _footprint(data, config)
    view, resize_to = data.task.config, None
    if (
        isinstance(view, ViewConfig)
        and (size := sufficient_size(view))
        and long_side(data.shards) > _MUCH_LARGER * size
    ):
        resize_to = size
    schedule = rehearsal.schedule(f"profile {options.profile}" if options.profile else "default profile")
    return Forecast(schedule, machine, rates, rehearsal.fit_as_configured, footprint, resize_to)


@contextmanager
def rehearsal_of(task_name: str, options: PlanOptions) -> Generator["Rehearsal"]:
    """A rehearsal of a run, with its data workers. Raises the errors that training would raise."""
    config = load_config(task_name, options.params, options.profile, options.overrides, options.section)
    set_numerics(tf32=config.fit.tf32, deterministic=False)
    data, _ = open_run_data(config, [options.shards], 0, 1)
    for note in check_data(config, data):
        print(note, file=sys.stderr)
    workers = workers_or_default(options.workers, options.device)
    on_device = renders_on_device(options.transforms, options.device, data.task)
    with RunPool(data, workers, on_device=on_device) as pool, _temporary_folder() as folder:
        pool.start()  # before CUDA, which does not survive a fork
        with one_process(options.device, workers, options.threads) as device:
            check_network(config, data, device)
            rehearsal = Rehearsal(config, data, pool, folder, device)
            with rehearsal.writer:
                yield rehearsal


class Rehearsal(Trainer):
    """A trainer that measures its parts instead of training."""

    def __init__(self, config: RunConfig, data: RunData, pool: RunPool, folder: Path, device: torch.device) -> None:
        self.fit_as_configured = config.fit
        slow = config.fit.model_copy(update={"learning_rate": _TINY_RATE})
        harmless = config.model_copy(update={"fit": slow})
        super().__init__(harmless, data, pool, folder, Processes(0, 1, device), Trackers())

    def schedule(self, profile: str) -> Schedule:
        """What the run consists of."""
        fit, ends = self.fit, [stage.until for stage in self.fit.stages]
        return Schedule(
            self.task.name, profile, fit.batch_size, self.plan.steps_per_epoch, self.num_steps,
            tuple(end - start for start, end in zip([0.0, *ends[:-1]], [*ends[:-1], 1.0], strict=True)),
            len(self.validation_rows), self.validate_every, fit.checkpoint_every_steps, fit.keep_checkpoints,
        )  # fmt: skip

    def measure(self, seconds: float) -> Rates:
        """Measure everything in about `seconds`; longer if few steps take longer."""
        begin = time.perf_counter()
        device, workers = self.processes.device, [worker.process for worker in self.pool.pool]
        batches = self.pool.training(range(self.num_steps + 10**9), device)
        first_batch = self.seconds(lambda: next(batches))
        stream, batch = self.stream_rate(batches, _STREAM * seconds)
        worker_bytes = max(map(private_bytes, workers), default=0)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        share = _STEPS * seconds / len(self.fit.stages)
        batch = self._part_for(batch, share)
        steps = [self.step_rate(number, batch, share) for number in range(len(self.fit.stages))]
        blocks, writes, size = self.saving()
        validation = (
            self.validation_rate(len(batch["row"]), _VALIDATION * seconds) if len(self.validation_rows) else None
        )
        return Rates(
            time.perf_counter() - begin, first_batch, stream, tuple(steps), len(batch["row"]), validation, blocks, writes, size,
            peak_bytes(), worker_bytes, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        )  # fmt: skip

    def saving(self) -> tuple[float, float, int]:
        """Seconds that a save blocks a step, seconds until it is on the disk, and its bytes."""
        self.state.step += 1
        first = self.seconds(self._save)
        writes = first + self.seconds(self._finish_save)
        size = sum(path.stat().st_size for path in self.checkpoints.glob("step-*/*"))
        blocks = min(first, self.seconds(self._save))  # the first one also allocates its memory
        self._finish_save()
        return blocks, writes, size

    def train_on(self, batch: Batch, stage: int = -1) -> None:
        """Train a step of a stage (its number) on a batch."""
        start = self.fit.stages[stage - 1].until if stage % len(self.fit.stages) else 0.0
        self._step(min(self.num_steps - 1, math.ceil(start * self.num_steps)), batch)
        self._read_values(MOST_PENDING)

    def stream_rate(self, batches: Generator[Batch], seconds: float) -> tuple[float, Batch]:
        """Rate of the stream alone, and a copy of its last batch."""
        next(batches)  # until here, workers have read their first samples
        start, images = time.perf_counter(), 0
        for batch in batches:
            images += len(batch["row"])
            if (spent := time.perf_counter() - start) >= seconds:
                return images / spent, {name: tensor.clone() for name, tensor in batch.items()}
        raise AssertionError("the stream has no end")

    def _part_for(self, batch: Batch, seconds: float) -> Batch:
        """The largest part of a batch of which a step takes about `seconds` on a CPU; on a GPU, all of it."""
        fit, size = self.fit, len(batch["row"])
        if self.processes.device.type != "cpu" or fit.compile:
            return batch
        least = math.lcm(2, kept_together(fit)) * fit.micro_batches
        trial = {name: tensor[:least] for name, tensor in batch.items()}
        spent = self.seconds_of(lambda: self.train_on(trial, 0), seconds / 4)
        part = max(least, int(seconds / 2 / spent) * least)
        return batch if part >= size else {name: tensor[:part] for name, tensor in batch.items()}

    def step_rate(self, stage: int, batch: Batch, seconds: float) -> float:
        """Rate of the steps of a stage (its number)."""
        return len(batch["row"]) / self.seconds_of(lambda: self.train_on(batch, stage), seconds)

    @torch.inference_mode()
    def validation_rate(self, images: int, seconds: float) -> float:
        """Rate of predicting this many images of a validation batch, as `_validate` does."""
        task = self.task.eval()
        task.set_tta(False)
        batch = {name: tensor[:images] for name, tensor in next(self.pool.validation(self.processes.device)).items()}
        with autocast(self.processes.device, self.fit.amp):
            rate = len(batch["row"]) / self.seconds_of(lambda: task.validate(batch), seconds)
        task.set_tta(None)
        self.stage = None  # the next step enters its stage again, which sets the modes of training
        return rate

    def seconds_of(self, work: Callable[[], object], seconds: float) -> float:
        """Mean duration of `work`, called as often as fits into `seconds`, without the first calls if there are more."""
        first = self.seconds(work)
        second = self.seconds(work) if first < seconds / 2 else first  # the first call also tunes kernels
        count = int((seconds - first - second) / second)
        return second if count < 1 else self.seconds(lambda: [work() for _ in range(count)]) / count

    def seconds(self, work: Callable[[], object]) -> float:
        """Seconds that work takes, with what it has queued on a GPU."""
        start = time.perf_counter()
        work()
        if self.processes.device.type == "cuda":
            torch.cuda.synchronize(self.processes.device)
        return time.perf_counter() - start


def _footprint(data: RunData, config: RunConfig) -> Footprint | None:
    """What a step keeps on a device; None if the loss cannot be traced."""
    row = int(data.plan.rows[0])
    with suppress(NotImplementedError):
        return measure_footprint(data.task, config.fit, example_batch(data.task, data.shards, row, 1))
    return None


def peak_bytes() -> int:
    """Largest resident memory of this process so far; 0 if the system does not tell."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def private_bytes(process: int) -> int:
    """Memory that a process shares with no other; 0 if the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


@contextmanager
def _temporary_folder() -> Generator[Path]:
    """A folder in the current one; those of killed processes are removed."""
    final = Path("plan")
    remove_leftovers_of(final)
    folder = temporary_of(final)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
