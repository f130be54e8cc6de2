"""Rows of a shard set for training, validation and evaluation of a run, and the order of training."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from fschemas.wording import count
from ftrain.data.config import FitConfig, RunConfig
from ftrain.data.joined_shards import JoinedShards
from ftrain.data.plan import (
    AcrossDomains,
    ClassBalanced,
    Identities,
    Mixture,
    Sampler,
    Windowed,
    in_several_domains,
    micro_batches_of_rank,
    shuffled,
    with_partners,
)
from ftrain.data.types import Rows
from ftrain.tasks.task import Task, find_task

_WITHOUT_LABELS = ("shuffled", "windowed", "auto")  # samplers that can order any set
HOLDOUT = "holdout"  # the held-out groups, as the name of a split


@dataclass(frozen=True)
class Splits:
    """Rows of a shard set by their use in a run.

    If the set has no third split for validation, a fraction of the groups of the training split is held out. A group
    (an item, a shoot) must not be in both. Groups are chosen by a hash of their names, so they are the same in every
    run.

    Of several sets, the training splits of all are used for training, and the first alone for validation. Each holds
    out groups if it has none, so that every one of them can be evaluated later.
    """

    task: Task | type[Task]  # a class before the task can be built
    config: RunConfig
    shards: ShardSet

    @property
    def validation_split(self) -> str:
        """Split that selects the checkpoint: `auto` is `val` in a set that also has a test split, else `holdout`."""
        if self.config.validation_split != "auto":
            return self.config.validation_split
        return "val" if self._has("test") else HOLDOUT

    @property
    def holds_out(self) -> bool:
        """Whether validation rows are held out from the training split."""
        return self._validates and not self._has(self.validation_split)

    def training(self) -> np.ndarray:
        """Training rows, including augmented copies."""
        if len(self.shards.parts) > 1:
            parts = zip(self.shards.parts, self.shards.starts, strict=True)
            return np.concatenate([replace(self, shards=part).training() + start for part, start in parts])
        rows = self._of(self.config.train_split)
        if self.holds_out:
            rows = rows[~self._held_out(rows)]
        return self._of_interest(rows)

    def validation(self) -> np.ndarray:
        """Validation rows, which select the best checkpoint; empty if validation is disabled."""
        return self.evaluated(self.validation_split) if self._validates else np.empty(0, dtype=np.int64)

    def training_images(self) -> np.ndarray:
        """Training rows without augmented copies; empty if the set has no training split."""
        if self.config.train_split not in self.shards.metadata["splits"]:
            return np.empty(0, dtype=np.int64)
        rows = self.training()
        return rows[self.shards.columns["copy"][rows] == 0]

    def evaluated(self, split: str) -> np.ndarray:
        """Rows of the split (or splits) requested by the user. Raises `UsageError` for a split without samples."""
        if len(self.shards.parts) > 1:
            return replace(self, shards=self.shards.parts[0]).evaluated(split)
        if self.holds_out and (split == self.validation_split or (split == "val" and not self._has("val"))):
            rows = self._of(self.config.train_split)
            rows = rows[self._held_out(rows) & (self.shards.columns["copy"][rows] == 0)]
            if len(rows) == 0:
                raise UsageError(
                    f"{self.shards.location}: hold_out={self.config.hold_out} selects no group; increase it, "
                    "or write a set with a validation split"
                )
            return self._of_interest(rows)
        return self._of_interest(self._of(split))

    @property
    def _validates(self) -> bool:
        return self.config.validation_split != "none"

    def _has(self, split: str) -> bool:
        known = self.shards.parts[0].metadata["splits"]
        return any(name in known for name in self.task.splits_of(split, known))

    def _of(self, split: str) -> np.ndarray:
        known = self.shards.metadata["splits"]
        names = [name for name in self.task.splits_of(split, known) if name in known] or [split]
        return np.sort(np.concatenate([self.shards.rows(name) for name in names]))

    def _of_interest(self, rows: np.ndarray) -> np.ndarray:
        task = self.task
        config = task.config if isinstance(task, Task) else task.Config(**self.config.model)
        return task.rows_of_interest(config, self.shards.columns, rows)

    def _held_out(self, rows: np.ndarray) -> np.ndarray:
        groups, inverse = np.unique(self.shards.columns["group"][rows], return_inverse=True)
        digests = [hashlib.blake2b(str(group).encode(), digest_size=8, person=b"hold-out").digest() for group in groups]
        chosen = np.array([int.from_bytes(digest, "big") < self.config.hold_out * 2**64 for digest in digests])
        return chosen[inverse]


def names_to_learn(config: RunConfig, shards: ShardSet) -> dict[str, list[str]]:
    """Class names of the training samples that are needed to build a task, besides the vocabularies of the set.

    Raises `UsageError` if the set does not have the column groups that the task needs, if several contradict each other
    in those that it learns, or if all training samples are held out.
    """
    task = find_task(config.task)
    task_config = task.Config(**config.model)
    shards.require(task.needed_groups(task_config))
    if isinstance(shards, JoinedShards):
        shards.check_agreement(task.optional_groups(task_config))
    rows = Splits(task, config, shards).training()
    if len(rows) == 0:
        raise UsageError(f"{shards.location}: hold_out={config.hold_out} leaves no group to train on; decrease it")
    return task.names_to_learn(task_config, shards.columns, rows)


def positions_of_rank(fit: FitConfig, rank: int, world_size: int, sampler: Sampler) -> np.ndarray:
    """Positions of this process in a global batch: (micro-batches, micro-batch size).

    Raises `UsageError` if the numbers do not divide evenly.
    """
    # One micro-batch per process by default, but with `exact` their number affects the bits, so the user chooses it.
    micro_batches = fit.micro_batches if fit.exact else max(fit.micro_batches, world_size)
    return micro_batches_of_rank(fit.batch_size, micro_batches, rank, world_size, _adjacent(sampler))


def _adjacent(sampler: Sampler) -> int:
    """Samples that a sampler keeps adjacent, such as the images of an identity."""
    return sampler.adjacent if isinstance(sampler, Identities | Mixture) else 1


def sampler_of(task: Task, fit: FitConfig, shards: ShardSet, rows: np.ndarray) -> tuple[Sampler, np.ndarray]:
    """Sampler of a configuration and the rows that it can use: P x K excludes identities with a single image.

    Raises `UsageError` if the task has nothing to balance, if no identity has two images, or if `fit.mixture` does not
    have one weight per shard set.
    """
    parts = shards.parts
    if fit.across_domains and fit.sampler != "identities":
        raise UsageError(f"fit.across_domains needs fit.sampler=identities, not {fit.sampler}")
    if fit.mixture and len(fit.mixture) != len(parts):
        raise UsageError(
            f"fit.mixture={list(fit.mixture)} has {count(len(fit.mixture), 'weight')} for {count(len(parts), 'shard set')}; "
            "list one weight per set"
        )
    labels: np.ndarray | None = None
    if fit.sampler not in _WITHOUT_LABELS:
        labels = task.labels_to_sample(Rows(shards, rows), identities=fit.sampler == "identities")
    if len(parts) == 1:
        return _sampler_of(task, fit, shards, rows, labels)
    chosen: list[tuple[Sampler, np.ndarray]] = []
    for part, start in zip(parts, shards.starts, strict=True):
        own = rows[(rows >= start) & (rows < start + len(part))]
        if not len(own):
            raise UsageError(f"{part.location}: has no image to train on; leave this shard set out")
        # Images without labels, or without partners, still train the losses that need none.
        orders = labels is None or len(_usable(fit, labels, own))
        chosen.append(_sampler_of(task, fit, shards, own, labels) if orders else (shuffled, own))
    if all(sampler is shuffled for sampler, _ in chosen) and fit.sampler not in _WITHOUT_LABELS:
        return _sampler_of(task, fit, shards, rows, labels)  # which says why
    samplers, members = zip(*chosen, strict=True)
    adjacent = max(map(_adjacent, samplers))
    weights = fit.mixture or tuple(float(len(own)) for own in members)
    return Mixture(samplers, members, weights, adjacent), np.sort(np.concatenate(members))


def _usable(fit: FitConfig, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows that a sampler of labels can use: with a partner for P x K, else with a label."""
    return with_partners(labels, rows) if fit.sampler == "identities" else rows[labels[rows] != ""]


def _sampler_of(
    task: Task, fit: FitConfig, shards: ShardSet, rows: np.ndarray, labels: np.ndarray | None
) -> tuple[Sampler, np.ndarray]:
    """Sampler of one set, or of one of several sets; `labels` are those of `labels_to_sample`, if it needs any."""
    if fit.sampler == "shuffled":
        return shuffled, rows
    if fit.sampler == "windowed":
        return Windowed(shards.columns["shard"]), rows
    if fit.sampler == "auto":
        if "item" not in shards.metadata["column_groups"]:
            return shuffled, rows
        items = shards.columns["item"]
        paired = with_partners(items, rows)
        if len(paired) == 0:
            return shuffled, rows
        identities = Identities(items, fit.samples_per_identity)
        if len(paired) == len(rows):
            return identities, rows
        parts = paired, np.setdiff1d(rows, paired)  # images without a partner still train the other losses
        weights = float(len(parts[0])), float(len(parts[1]))
        return Mixture((identities, shuffled), parts, weights, identities.adjacent), rows
    if labels is None:
        raise UsageError(
            f"fit.sampler={fit.sampler}: the task {task.name} has neither classes nor identities; use shuffled"
        )
    if fit.sampler != "identities":
        known = _usable(fit, labels, rows)
        if len(known) == 0:
            raise UsageError(
                f"{shards.location}: fit.sampler={fit.sampler} needs labels, and no training sample has one; use shuffled"
            )
        return ClassBalanced(labels, 0.5 if fit.sampler == "square_root" else 0.0), known
    paired = _usable(fit, labels, rows)
    if len(paired) == 0:
        raise UsageError(f"{shards.location}: no item has two training images, so there are no positive pairs")
    if not fit.across_domains:
        return Identities(labels, fit.samples_per_identity), paired
    domains = shards.columns.get("domain", np.full(len(shards), ""))
    paired = in_several_domains(labels, domains, paired)
    if len(paired) == 0:
        raise UsageError(
            f"{shards.location}: fit.across_domains: no item has images of two domains, such as consumer and shop; set it to false"
        )
    return AcrossDomains(labels, fit.samples_per_identity, domains), paired
