"""Samples from shards to batches: decoded and encoded in worker processes, handed over in a shared ring, in the order of a plan.

Workers write each global step into a slot of preallocated shared memory and send only the slot's number, which spares the
copies of torch's collation. The slot of step s is s mod slots: DataLoader asks workers for at most `prefetch x workers` steps
beyond the one in hand, so with two slots more no slot in use is written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fschemas.failures import EnvironmentProblem, FashionkitError, IntegrityError
from fschemas.publish import die_with_parent
from fschemas.shard_set import ShardSet
from ftrain.plan import TrainingPlan, evaluation_batches

Batch = dict[str, torch.Tensor]
_PREFETCH = 2
_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class RawSample:
    """One sample as the shards hold it."""

    row: int
    image: bytes
    annotation: dict[str, Any]


class Encoder(Protocol):
    """Turns a sample into arrays of fixed shapes, in a worker. `generator` is None when nothing may be random."""

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Arrays by name; the stream adds the batch dimension and `row`."""
        ...


class _Steps(Dataset[tuple[int, int, FashionkitError | None]]):
    """Item i is step i: fills a slot of the ring and returns (step, slot, what went wrong)."""

    def __init__(
        self, shards: ShardSet, encoder: Encoder, batches: Sequence[np.ndarray], generators: _Generators | None, slots: int
    ) -> None:
        self.shards, self.encoder, self.batches, self.generators, self.slots = shards, encoder, batches, generators, slots
        self.ring: Batch = {}
        self._views: dict[str, np.ndarray] = {}

    def allocate(self, batch_size: int, example_row: int) -> None:
        """Make the ring, in the shapes that the encoder gives for one sample."""
        example = {"row": np.zeros((), np.int64), **self._encode(example_row, None)}
        for name, array in example.items():
            dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
            self.ring[name] = torch.zeros((self.slots, batch_size, *array.shape), dtype=dtype).share_memory_()
        self._views = {name: buffer.numpy() for name, buffer in self.ring.items()}

    def _encode(self, row: int, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        image, annotation = self.shards.read(row)
        try:
            return self.encoder(RawSample(row, image, annotation), generator)
        except (ValueError, KeyError, cv2.error) as error:
            key = self.shards.columns["key"][row]
            raise IntegrityError(
                f"{self.shards.place}: sample {key} cannot be used ({error}); run `fprep lint` on the set"
            ) from error

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> tuple[int, int, FashionkitError | None]:
        slot = step % self.slots
        try:
            for place, row in enumerate(self.batches[step]):
                self._views["row"][slot, place] = row
                if row < 0:
                    continue  # padding of an evaluation batch: masked out by the row number
                generator = self.generators.of(step, place) if self.generators else None
                for name, array in self._encode(int(row), generator).items():
                    self._views[name][slot, place] = array
        except FashionkitError as error:
            return step, slot, error  # as a value: DataLoader would wrap a raised one in a traceback
        return step, slot, None


@dataclass(frozen=True)
class _Generators:
    """Randomness of augmentation, keyed by the seed and the sample's place in the run, never by worker or rank."""

    seed: int
    batch_size: int
    positions: np.ndarray

    def of(self, step: int, place: int) -> np.random.Generator:
        drawn = step * self.batch_size + int(self.positions[place])
        return np.random.Generator(np.random.Philox(key=[(self.seed & (2**63 - 1)) + 2**63, drawn]))


class _RankBatches(Sequence[np.ndarray]):
    """The rows of one rank at every step of a plan."""

    def __init__(self, plan: TrainingPlan, positions: np.ndarray, num_steps: int) -> None:
        self.plan, self.positions, self.num_steps = plan, positions, num_steps

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> np.ndarray:  # type: ignore[override]
        return self.plan.batch(step)[self.positions]


def training_batches(
    shards: ShardSet,
    encoder: Encoder,
    plan: TrainingPlan,
    *,
    positions: np.ndarray,
    start: int,
    stop: int,
    workers: int,
) -> Iterator[Batch]:
    """Yield the batches of steps `start` to `stop` - 1 for one rank; `positions` are its places in a global batch.

    A batch is valid until the next but one is asked for. Every batch is compared with the plan before it is handed out.
    """
    generators = _Generators(plan.seed, plan.batch_size, positions)
    steps = _Steps(shards, encoder, _RankBatches(plan, positions, stop), generators, workers * _PREFETCH + 2)
    steps.allocate(positions.size, int(plan.rows[0]))
    for step, batch in _load(steps, range(start, stop), workers):
        if not np.array_equal(batch["row"].numpy(), steps.batches[step]):
            raise EnvironmentProblem(f"the batch of step {step} does not hold the planned samples; report this as a bug")
        yield batch


def evaluation_stream(
    shards: ShardSet, encoder: Encoder, rows: np.ndarray, *, batch_size: int, rank: int, world_size: int, workers: int
) -> Iterator[Batch]:
    """Yield every row of `rows` exactly once over all ranks, unaugmented; places with `row` = -1 are padding."""
    batches = evaluation_batches(rows, min(batch_size, len(rows)), rank, world_size)
    steps = _Steps(shards, encoder, batches, None, workers * _PREFETCH + 2)
    steps.allocate(len(batches[0]), int(rows[0]))
    for _, batch in _load(steps, range(len(batches)), workers):
        yield batch


def _load(steps: _Steps, order: range, workers: int) -> Iterator[tuple[int, Batch]]:
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=order,  # type: ignore[arg-type]
        num_workers=workers,
        prefetch_factor=_PREFETCH if workers else None,
        timeout=_TIMEOUT_SECONDS if workers else 0,
        worker_init_fn=_start_worker,
    )
    expected = iter(order)
    try:
        for step, slot, failure in loader:
            assert step == next(expected), "DataLoader changed the order of steps"
            if failure is not None:
                raise failure
            yield int(step), {name: buffer[slot] for name, buffer in steps.ring.items()}
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise EnvironmentProblem(f"a data worker died or hung ({reason}); run the same command again to go on") from error


def _start_worker(worker: int) -> None:
    die_with_parent()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
