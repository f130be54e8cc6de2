"""Rows of each global batch: pure functions of (rows, seed, position), independent of workers and ranks.

A position is one integer, the number of completed optimizer steps. Ranks take micro-batches of a global batch and
workers take pieces of a step, so neither affects the order; a run resumes exactly at its position.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fschemas.failures import UsageError
from fschemas.wording import count

# A sampler orders one epoch: (rows of the split, generator of the epoch) -> rows, possibly repeated.
Sampler = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def shuffled(rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Every row once, in uniformly random order."""
    return generator.permutation(rows)


@dataclass(frozen=True)
class ClassBalanced:
    """Class c of n rows gets a share proportional to n ** `power`, its rows cycled in random order.

    0: every class equally often (class-aware sampling, Shen et al., ECCV 2016); 0.5: square-root sampling (Mahajan et
    al., ECCV 2018; Kang et al., ICLR 2020, section 3). An epoch has as many samples as rows.
    """

    labels: np.ndarray  # one label per row of the index
    power: float = 0.0

    def __call__(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Take the share of each class, then shuffle."""
        classes = [generator.permutation(rows[self.labels[rows] == label]) for label in np.unique(self.labels[rows])]
        sizes = np.array([len(members) for members in classes], dtype=float) ** self.power
        shares = np.ceil(len(rows) * sizes / sizes.sum()).astype(int)
        drawn = np.concatenate([np.resize(members, share) for members, share in zip(classes, shares, strict=True)])
        return generator.permutation(drawn)[: len(rows)]


@dataclass(frozen=True)
class Identities:
    """P x K sampling (Hermans et al., 2017, section 3): K adjacent images of each of P identities per batch.

    An epoch has as many samples as rows. The images of an identity are split into groups of K, the last one filled up
    with images of the same identity. The groups are taken in rounds, one per identity, so that an identity does not
    occur twice in a batch while enough others are left.
    """

    labels: np.ndarray  # one identity per row of the index
    per_identity: int

    @property
    def adjacent(self) -> int:
        """Samples that stay adjacent."""
        return self.per_identity

    def __call__(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Split the images of every identity into groups of K, then take one group of each in turn."""
        rounds: list[list[np.ndarray]] = []
        order = generator.permutation(rows)
        _, identity = np.unique(self.labels[order], return_inverse=True)
        by_identity = np.split(order[np.argsort(identity, kind="stable")], np.cumsum(np.bincount(identity))[:-1])
        for number in generator.permutation(len(by_identity)):
            images = self._arranged(by_identity[number])
            groups = np.resize(images, (-(-len(images) // self.per_identity), self.per_identity))
            for round_index, group in enumerate(groups):
                if round_index == len(rounds):
                    rounds.append([])
                rounds[round_index].append(group)
        return np.resize(np.concatenate([group for groups in rounds for group in groups]), len(rows))

    def _arranged(self, images: np.ndarray) -> np.ndarray:
        """Order the images of an identity; each K in a row are a group."""
        return images


@dataclass(frozen=True)
class AcrossDomains(Identities):
    """P x K sampling with the domains of an identity in turn, so that all are in every group.

    Consumer and shop images of an item are then always positives of each other. In the domain with fewer images, they
    are repeated.
    """

    domains: np.ndarray  # one domain per row of the index

    def _arranged(self, images: np.ndarray) -> np.ndarray:
        parts = [images[self.domains[images] == domain] for domain in np.unique(self.domains[images])]
        longest = max(map(len, parts))
        return np.stack([np.resize(part, longest) for part in parts], axis=1).reshape(-1)


def with_partners(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows with a known identity that has another image among `rows`: a single image has no positive to learn from."""
    _, identity, counts = np.unique(labels[rows], return_inverse=True, return_counts=True)
    return rows[(counts[identity] > 1) & (labels[rows] != "")]


def in_several_domains(labels: np.ndarray, domains: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows with a known domain whose identity has images of another known domain among `rows`."""
    known = rows[~np.isin(domains[rows], ("", "unknown"))]
    pairs = np.unique(np.stack([labels[known], domains[known]], axis=1), axis=0)
    names, counts = np.unique(pairs[:, 0], return_counts=True)
    return known[np.isin(labels[known], names[counts > 1])]


def anchors_with_positive(labels: np.ndarray) -> tuple[int, int]:
    """Count the known labels of a batch that another image shares, and all known labels.

    `labels` is int64 B, A: what a triplet loss compares, -1 if unknown.
    """
    counts = [np.unique(column[column >= 0], return_counts=True)[1] for column in labels.T]
    return int(sum(own[own > 1].sum() for own in counts)), int((labels >= 0).sum())


@dataclass(frozen=True)
class Windowed:
    """Every row once: random order of shards, shuffled within windows of a few shards; remote reads stay sequential."""

    shards: np.ndarray  # shard number of every row of the index
    window: int = 8

    def __call__(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Concatenate the shuffled windows."""
        order = generator.permutation(np.unique(self.shards[rows]))
        windows = [order[start : start + self.window] for start in range(0, len(order), self.window)]
        return np.concatenate([generator.permutation(rows[np.isin(self.shards[rows], window)]) for window in windows])


@dataclass(frozen=True)
class Mixture:
    """Several parts in one plan: every batch has images of each in the proportion of the weights, evenly interleaved.

    The parts are shard sets, or the images of one set with and without a partner.

    An epoch has as many samples as the sets have rows together. A set that has fewer rows than its weight asks for is
    repeated, each time in a new order.
    """

    samplers: tuple[Sampler, ...]  # one per set
    members: tuple[np.ndarray, ...]  # rows of each set
    weights: tuple[float, ...]
    adjacent: int = 1  # samples that stay adjacent, such as the K images of an identity

    @property
    def shares(self) -> np.ndarray:
        """Share of each set among the samples."""
        return np.array(self.weights) / sum(self.weights)

    def __call__(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Order the adjacent samples of each set, then interleave the sets."""
        counts = np.ceil(self.shares * len(rows) / self.adjacent).astype(int)
        drawn = [self._drawn(number, count, generator) for number, count in enumerate(counts)]
        times = np.concatenate(
            [(np.arange(count) + 0.5) / share for count, share in zip(counts, self.shares, strict=True)]
        )
        return np.concatenate(drawn)[np.argsort(times, kind="stable")].reshape(-1)[: len(rows)]

    def _drawn(self, number: int, count: int, generator: np.random.Generator) -> np.ndarray:
        """Draw `count` times `adjacent` samples of a set."""
        drawn: list[np.ndarray] = []
        while sum(map(len, drawn)) < count:
            order = self.samplers[number](self.members[number], generator)
            size = max(1, len(order) // self.adjacent) * self.adjacent
            drawn.append(np.resize(order, size).reshape(-1, self.adjacent))
        return np.concatenate(drawn)[:count]


@dataclass(frozen=True)
class TrainingPlan:
    """Global batches of a run. `batch_size` counts all ranks; the last incomplete batch of an epoch is dropped."""

    rows: np.ndarray
    batch_size: int
    seed: int
    sampler: Sampler = shuffled
    _epochs: dict[int, np.ndarray] = field(default_factory=dict[int, np.ndarray], repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.rows) < self.batch_size:
            raise UsageError(
                f"the split has {count(len(self.rows), 'sample')}, fewer than fit.batch_size={self.batch_size}; lower it"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Number of complete batches in an epoch."""
        return len(self.rows) // self.batch_size

    def batch(self, step: int) -> np.ndarray:
        """Rows (B,), int64, of the global batch of optimizer step `step`, counted from 0 over all epochs."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if epoch not in self._epochs:
            self._epochs.clear()
            key = np.array([self.seed & (2**64 - 1), epoch], dtype=np.uint64)
            generator = np.random.Generator(np.random.Philox(key=key))
            self._epochs[epoch] = self.sampler(self.rows, generator)
        return self._epochs[epoch][number * self.batch_size : (number + 1) * self.batch_size]


def model_seed(seed: int, step: int, micro_batch: int) -> int:
    """64-bit seed for torch before a micro-batch; the seeds of adjacent steps are unrelated."""
    return int(np.random.SeedSequence((seed, step, micro_batch)).generate_state(1, np.uint64)[0])


def micro_batches_of_rank(
    batch_size: int, micro_batches: int, rank: int, world_size: int, together: int = 1
) -> np.ndarray:
    """Positions in a global batch of the micro-batches of a rank: (micro_batches / world_size, micro-batch size).

    Rank r takes the micro-batches m with m mod world_size = r. `together` adjacent samples (the images of an identity)
    share a micro-batch. Raises `UsageError`, with numbers that fit, if the numbers do not divide evenly.
    """
    if micro_batches % world_size:
        more = -(-micro_batches // world_size) * world_size
        raise UsageError(
            f"fit.micro_batches={micro_batches} cannot be divided among {world_size} processes; use fit.micro_batches={more}"
        )
    unit = micro_batches * together
    if batch_size % unit:
        fitting = [str(size) for size in (batch_size // unit * unit, (batch_size // unit + 1) * unit) if size]
        parts = f"{count(micro_batches, 'micro-batch', 'micro-batches')} on {count(world_size, 'process', 'processes')}"
        whole = f" of whole identities (fit.samples_per_identity={together})" if together > 1 else ""
        raise UsageError(
            f"fit.batch_size={batch_size} cannot be divided into {parts}{whole}; use fit.batch_size={' or '.join(fitting)}"
        )
    positions = np.arange(batch_size).reshape(micro_batches, -1)
    return positions[rank::world_size]


def evaluation_batches(rows: np.ndarray, batch_size: int, rank: int, world_size: int) -> list[np.ndarray]:
    """Batches (B,) of one rank, padded with -1 to equal shapes on all ranks.

    Together, the ranks visit every row exactly once.
    """
    per_rank = -(-len(rows) // world_size)
    num_batches = max(1, -(-per_rank // batch_size))
    padded = np.full(num_batches * batch_size * world_size, -1, dtype=np.int64)
    padded[: len(rows)] = rows
    return list(padded.reshape(num_batches, world_size, batch_size)[:, rank])


def extend_ledger(ledger: str, rows: np.ndarray) -> str:
    """Chain the consumed rows into a running SHA-256: equal ledgers prove that no row was lost, repeated or moved."""
    return hashlib.sha256(bytes.fromhex(ledger) + np.ascontiguousarray(rows, dtype="<i8").tobytes()).hexdigest()


EMPTY_LEDGER = hashlib.sha256(b"").hexdigest()
