"""Which rows of a shard set a run trains on, validates on and is evaluated on, and in which order it takes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, RunConfig
from ftrain.data.plan import (
    ClassBalanced,
    Identities,
    Sampler,
    Windowed,
    micro_batches_of_rank,
    shuffled,
    with_partners,
)
from ftrain.fit.distributed import Processes
from ftrain.tasks.task import Task, find_task


@dataclass(frozen=True)
class Splits:
    """The rows of a shard set as one run uses them.

    Where the set has no validation split, a share of the groups of the training split (an item, a shoot: what must not be on
    both sides) is held out, chosen by a hash of the group's name: the same ones in every run.
    """

    task: Task | type[Task]  # a class where the task cannot be built yet
    config: RunConfig
    shards: ShardSet

    @property
    def holds_out(self) -> bool:
        """Whether validation is cut out of the training split."""
        known = self.shards.metadata["splits"]
        return self._validates and not any(
            name in known for name in self.task.splits_of(self.config.validation_split, known)
        )

    def training(self) -> np.ndarray:
        """Rows to learn from, augmented copies among them."""
        rows = self._of(self.config.train_split)
        if self.holds_out:
            rows = rows[~self._held_out(rows)]
        return self._of_interest(rows)

    def validation(self) -> np.ndarray:
        """Rows that choose the best checkpoint; empty where there shall be none."""
        return self.evaluated(self.config.validation_split) if self._validates else np.empty(0, dtype=np.int64)

    def training_images(self) -> np.ndarray:
        """Rows to learn from without augmented copies; empty where the set has none."""
        if self.config.train_split not in self.shards.metadata["splits"]:
            return np.empty(0, dtype=np.int64)
        rows = self.training()
        return rows[self.shards.columns["copy"][rows] == 0]

    def evaluated(self, split: str) -> np.ndarray:
        """Rows of the split (or splits) that a user names; raises `UsageError` for one without samples."""
        if split == self.config.validation_split and self.holds_out:
            rows = self._of(self.config.train_split)
            rows = rows[self._held_out(rows) & (self.shards.columns["copy"][rows] == 0)]
            if len(rows) == 0:
                raise UsageError(
                    f"{self.shards.place}: hold_out={self.config.hold_out} of the training groups is none; raise it, "
                    "or write a set with a validation split"
                )
            return self._of_interest(rows)
        return self._of_interest(self._of(split))

    @property
    def _validates(self) -> bool:
        return self.config.validation_split != "none"

    def _of(self, split: str) -> np.ndarray:
        known = self.shards.metadata["splits"]
        names = [name for name in self.task.splits_of(split, known) if name in known] or [split]
        return np.sort(np.concatenate([self.shards.rows(name) for name in names]))

    def _of_interest(self, rows: np.ndarray) -> np.ndarray:
        task = self.task
        config = task.config if isinstance(task, Task) else task.Config(**self.config.model)
        return task.rows_of_interest(config, self.shards.columns, rows)

    def _held_out(self, rows: np.ndarray) -> np.ndarray:
        groups, places = np.unique(self.shards.columns["group"][rows], return_inverse=True)
        digests = [hashlib.blake2b(str(group).encode(), digest_size=8, person=b"hold-out").digest() for group in groups]
        chosen = np.array([int.from_bytes(digest, "big") < self.config.hold_out * 2**64 for digest in digests])
        return chosen[places]


def names_to_learn(config: RunConfig, shards: ShardSet) -> dict[str, list[str]]:
    """What a task must know of the training samples to be built, besides the vocabularies of the set.

    Raises `UsageError` where the set does not carry the column groups that the task needs.
    """
    task = find_task(config.task)
    task_config = task.Config(**config.model)
    shards.require(task.needed_groups(task_config))
    return task.names_to_learn(task_config, shards.columns, Splits(task, config, shards).training())


def positions_of_rank(fit: FitConfig, group: Processes) -> np.ndarray:
    """Places in a global batch of this process: micro-batches x size of one. Raises `UsageError` when the numbers do not divide."""
    # One micro-batch a process is natural, but with `exact` their number decides the bits and is the user's alone.
    micro_batches = fit.micro_batches if fit.exact else max(fit.micro_batches, group.world_size)
    return micro_batches_of_rank(fit.batch_size, micro_batches, group.rank, group.world_size)


def sampler_of(task: Task, fit: FitConfig, shards: ShardSet, rows: np.ndarray) -> tuple[Sampler, np.ndarray]:
    """The sampler of a configuration, and the rows that it can use: P x K leaves out identities with one image.

    Raises `UsageError` where the task has nothing to balance, or where no identity has two images.
    """
    if fit.sampler == "shuffled":
        return shuffled, rows
    if fit.sampler == "windowed":
        return Windowed(shards.columns["shard"]), rows
    labels = task.sampling_labels(task.config, shards.columns)
    if labels is None:
        raise UsageError(
            f"fit.sampler={fit.sampler}: the task {task.name} has neither classes nor identities; take shuffled"
        )
    if fit.sampler == "balanced":
        known = rows[labels[rows] != ""]
        if len(known) == 0:
            raise UsageError(
                f"{shards.place}: fit.sampler=balanced needs labels, and no training sample has one; take shuffled"
            )
        return ClassBalanced(labels), known
    part = fit.batch_size // fit.micro_batches
    if part % fit.samples_per_identity:
        raise UsageError(
            f"fit.batch_size={fit.batch_size} in {fit.micro_batches} parts does not divide into identities with "
            f"fit.samples_per_identity={fit.samples_per_identity} images; change one of them"
        )
    paired = with_partners(labels, rows)
    if len(paired) == 0:
        raise UsageError(f"{shards.place}: no item has two training photographs, so there are no pairs to learn from")
    return Identities(labels, fit.samples_per_identity), paired
