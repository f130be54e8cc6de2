"""A shard set as a `torch.utils.data.IterableDataset`, for training loops that are not ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from fschemas.failures import UsageError
from fschemas.wording import count
from ftrain.data.image import decode
from ftrain.data.plan import Sampler, TrainingPlan, evaluation_batches, micro_batches_of_rank, shuffled
from ftrain.data.remote import open_shards
from ftrain.data.stream import Encoder, Generators, RawSample, encode_row


class ShardDataset(IterableDataset[dict[str, Any]]):
    """The samples of a split, in the exact order of `ftrain`'s own training stream, for any number of workers and ranks.

    Without an `encoder` a sample is a dict:

    - `row` (int): its row in the index of the set; `key` (str): its name
    - `image`: uint8 H, W, 3, RGB, of the size it is stored in; its JPEG bytes with `decode=False`
    - `annotation` (dict): what `<key>.json` holds, the same keys for every sample of a set: `key`, `split`, `group`, `width`,
      `height`, and of its labels such as `category`, `box` (x1, y1, x2, y2) and `landmark_x`, `landmark_y`, `landmark_visibility`
      (K numbers each); coordinates are pixel centers of the stored image

    With an `encoder` it is what that returns, arrays of fixed shapes by name, with `row` (int64) added. An encoder is a picklable
    function `(sample, generator) -> dict[str, np.ndarray]`; `sample` has `row`, `image` (JPEG bytes) and `annotation`, and all
    randomness of the augmentation comes from `generator`, a `np.random.Generator` keyed by `seed` and position, or None without
    `shuffle`. That of a trained task is `ftrain.load(run).task.encoder`.

    One pass is one epoch. With `shuffle` it is that of `set_epoch` in random order, without its last incomplete batch. Otherwise it
    is every sample of the split once, in the order of the index. With several ranks (`torch.distributed`, if it is initialized, or
    `rank` and `world_size`) each takes its slice of every global batch.

    `loader()` makes the DataLoader. Whoever makes one passes `batch_size=dataset.batch_size` and no `shuffle`: workers take whole
    batches in turn, so that another size would mix the order (but still give every sample once).
    """

    def __init__(
        self, shards: str | Path, split: str = "train", *, batch_size: int = 32, shuffle: bool = True, seed: int = 0,
        encoder: Encoder | None = None, decode: bool = True, sampler: Sampler = shuffled, rows: Sequence[int] | np.ndarray | None = None,
        rank: int | None = None, world_size: int | None = None,
    ) -> None:  # fmt: skip
        """Open a shard set, a folder or any fsspec URL.

        `batch_size` counts the samples of a global batch, over all ranks, as `fit.batch_size`. `rows` of the index replace the
        split. `sampler` orders an epoch (`ftrain.data.plan`). Raises `UsageError` for a missing set or split and for a batch size
        that does not divide among the ranks, `IntegrityError` for a damaged set; iterating raises that for a damaged sample.
        """
        super().__init__()
        self.shards, self.encoder, self.decode, self.shuffle = open_shards(str(shards)), encoder, decode, shuffle
        """The opened set: `metadata` is dataset.json, `columns` the index."""
        in_group = dist.is_available() and dist.is_initialized()
        self.rank = rank if rank is not None else dist.get_rank() if in_group else 0
        self.world_size = world_size if world_size is not None else dist.get_world_size() if in_group else 1
        if batch_size < 1 or batch_size % self.world_size or not 0 <= self.rank < self.world_size:
            raise UsageError(
                f"batch_size={batch_size} must divide among {count(self.world_size, 'rank')}, of which this is {self.rank}; change one of them"
            )
        self.batch_size = batch_size // self.world_size
        """Samples of a batch of this rank, what a DataLoader takes."""
        self.rows = np.asarray(self.shards.rows(split) if rows is None else rows, np.int64)
        self._positions = micro_batches_of_rank(batch_size, self.world_size, self.rank, self.world_size).reshape(-1)
        self._plan = TrainingPlan(self.rows, batch_size, seed, sampler) if shuffle else None
        self._generators = Generators(seed, batch_size, self._positions)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # persistent workers see it change

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass gives, counted from 0; persistent workers follow."""
        self._epoch.fill_(epoch)

    def loader(self, num_workers: int = 0, **options: Any) -> DataLoader[Any]:
        """A DataLoader over batches of this rank; `options` are those of DataLoader, such as `collate_fn` and `pin_memory`."""
        return DataLoader(self, batch_size=self.batch_size, num_workers=num_workers, **options)

    def __len__(self) -> int:
        """Samples of one pass of this rank."""
        if self._plan is not None:
            return self._plan.steps_per_epoch * self.batch_size
        return sum(len(batch) for batch in self._batches())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        if worker is not None:
            self.shards.close()  # a worker opens its own files
            cv2.setNumThreads(0)
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for step, batch in enumerate(self._batches()):
            if step % workers == number:
                for place, row in enumerate(batch):
                    yield self._sample(int(row), step, place)

    def _batches(self) -> list[np.ndarray]:
        """The rows of this rank's batches in one pass."""
        if self._plan is None:
            batches = evaluation_batches(self.rows, self.batch_size, self.rank, self.world_size)
            return [batch[batch >= 0] for batch in batches]  # without padding
        steps = self._plan.steps_per_epoch
        first = int(self._epoch) * steps
        return [self._plan.batch(step)[self._positions] for step in range(first, first + steps)]

    def _sample(self, row: int, step: int, place: int) -> dict[str, Any]:
        if self.encoder is not None:
            generator = None
            if self._plan is not None:
                generator = self._generators.of(int(self._epoch) * self._plan.steps_per_epoch + step, place)
            return {"row": np.int64(row), **encode_row(self.shards, self.encoder, row, generator)}
        return encode_row(self.shards, self._as_stored, row, None)

    def _as_stored(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, Any]:
        del generator
        image = decode(sample.image)[0] if self.decode else sample.image
        key = str(self.shards.columns["key"][sample.row])
        return {"row": sample.row, "key": key, "image": image, "annotation": sample.annotation}
