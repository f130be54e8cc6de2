"""The order of a run: pure functions of seed and position, independent of workers, ranks and restarts."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fschemas.failures import UsageError
from ftrain.data.plan import (
    EMPTY_LEDGER,
    ClassBalanced,
    Identities,
    Sampler,
    TrainingPlan,
    Windowed,
    anchors_with_positive,
    evaluation_batches,
    extend_ledger,
    micro_batches_of_rank,
    model_seed,
    shuffled,
    with_partners,
)

ROWS = np.arange(100, 143)  # the split does not begin at row 0
LABELS = np.repeat([7, 8, 9], [130, 3, 10])  # of the whole index; 30, 3 and 10 are in the split
SHARDS = np.arange(200) // 6
SAMPLERS: dict[str, Sampler] = {
    "shuffled": shuffled, "class-balanced": ClassBalanced(LABELS), "square-root": ClassBalanced(LABELS, 0.5),
    "windowed": Windowed(SHARDS, window=3),
}  # fmt: skip
samplers = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def plan(sampler: Sampler = shuffled, seed: int = 5, batch_size: int = 8) -> TrainingPlan:
    return TrainingPlan(ROWS, batch_size, seed, sampler)


@samplers
def test_any_position_can_be_computed_on_its_own(sampler: Sampler) -> None:
    """Starting at any step, across two epoch boundaries, gives the rest of the whole run."""
    whole, steps = plan(sampler), range(3 * plan(sampler).steps_per_epoch)
    full = [whole.batch(step).tolist() for step in steps]
    for start in steps:
        late = plan(sampler)
        assert [late.batch(step).tolist() for step in steps[start:]] == full[start:]
    backwards = plan(sampler)
    assert [backwards.batch(step).tolist() for step in reversed(steps)] == full[::-1]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 2**63 - 1), st.sampled_from(list(SAMPLERS)))
@settings(max_examples=200, deadline=None)
def test_ledger_is_the_same_after_any_schedule_of_restarts(cuts: list[int], seed: int, name: str) -> None:
    def consume(ledger: str, start: int, stop: int) -> str:
        fresh = plan(SAMPLERS[name], seed)
        for step in range(start, stop):
            ledger = extend_ledger(ledger, fresh.batch(step))
        return ledger

    ledger, position = EMPTY_LEDGER, 0
    for cut in sorted(cuts):
        ledger, position = consume(ledger, position, cut), cut
    assert consume(ledger, position, 41) == consume(EMPTY_LEDGER, 0, 41)


@pytest.mark.parametrize("sampler", [shuffled, SAMPLERS["windowed"]], ids=["shuffled", "windowed"])
def test_an_epoch_takes_no_row_twice_and_drops_the_last_incomplete_batch(sampler: Sampler) -> None:
    tested = plan(sampler)
    assert tested.steps_per_epoch == 5
    for epoch in range(3):
        seen = np.concatenate([tested.batch(epoch * 5 + number) for number in range(5)])
        assert len(seen) == 40
        assert len(set(seen.tolist())) == 40
        assert set(seen.tolist()) <= set(ROWS.tolist())
    assert not np.array_equal(tested.batch(0), tested.batch(5)), "epochs differ"
    assert not np.array_equal(tested.batch(0), plan(sampler, seed=6).batch(0)), "seeds differ"


def test_class_balanced_takes_every_class_equally_often() -> None:
    for epoch in range(4):
        drawn = SAMPLERS["class-balanced"](ROWS, np.random.default_rng(epoch))
        assert len(drawn) == len(ROWS)
        counts = Counter(LABELS[drawn].tolist())
        assert set(counts) == {7, 8, 9}
        assert max(counts.values()) - min(counts.values()) <= 2  # 45 draws for 43 positions
        rare = Counter(row for row in drawn.tolist() if LABELS[row] == 8)
        assert max(rare.values()) - min(rare.values()) <= 2, "rows of a class take turns"


def test_identities_stand_side_by_side_and_once_a_batch() -> None:
    labels = np.repeat([f"item {number}" for number in range(12)], 5)
    rows = np.flatnonzero(labels != "item 3")
    sampler = Identities(labels, per_identity=4)
    epoch = sampler(rows, np.random.default_rng(0)).reshape(-1)
    assert len(epoch) == len(rows)
    hands = labels[epoch[: 11 * 4]].reshape(-1, 4)
    assert (hands == hands[:, :1]).all()
    assert sorted(hands[:, 0]) == sorted(set(labels[rows]))  # first every identity once, then the remaining ones
    assert all(len(set(hand)) == 4 for hand in epoch[: 11 * 4].reshape(-1, 4).tolist())
    assert (epoch != sampler(rows, np.random.default_rng(1))).any()


def test_an_identity_with_few_images_fills_its_places_with_them() -> None:
    labels = np.array(["a", "a", "b", "b", "b", "b", "b"])
    epoch = Identities(labels, per_identity=4)(np.arange(7), np.random.default_rng(0))
    hands = labels[epoch[:4]]
    assert len(set(hands)) == 1
    assert set(epoch) <= set(range(7))


def test_an_image_without_partner_cannot_be_paired() -> None:
    labels = np.array(["a", "b", "b", "", "", "c", "b"])
    assert with_partners(labels, np.array([0, 1, 3, 4, 5, 6])).tolist() == [1, 6]


def test_windows_keep_reading_sequential() -> None:
    """Each stretch of an epoch reads only the few shards of its window, and no shard is read again later."""
    order = SHARDS[SAMPLERS["windowed"](ROWS, np.random.default_rng(0))]
    open_now: set[int] = set()
    gone: set[int] = set()
    for place, shard in enumerate(order.tolist()):
        assert shard not in gone
        open_now.add(shard)
        finished = {other for other in open_now if other not in order[place:].tolist()}
        gone |= finished
        open_now -= finished
        assert len(open_now) <= 3
    assert gone | open_now == set(SHARDS[ROWS].tolist())


def test_the_order_of_a_seed_never_changes() -> None:
    """Runs of earlier versions must resume: this pins numpy's generator as well as its use."""
    assert TrainingPlan(np.arange(10), 4, 0).batch(3).tolist() == [0, 7, 8, 5]
    assert model_seed(1, 2, 3) == 12997252459554536576


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(UsageError, match=r"43 samples, fewer than fit\.batch_size=44"):
        plan(batch_size=44)


@pytest.mark.parametrize(("micro_batches", "world_size"), [(1, 1), (4, 1), (4, 2), (4, 4), (2, 2)])
def test_ranks_share_a_batch(micro_batches: int, world_size: int) -> None:
    """All ranks together cover every position once; micro-batch m has the same positions for any number of ranks."""
    by_rank = [micro_batches_of_rank(24, micro_batches, rank, world_size) for rank in range(world_size)]
    assert sorted(np.concatenate([part.reshape(-1) for part in by_rank]).tolist()) == list(range(24))
    alone = micro_batches_of_rank(24, micro_batches, 0, 1)
    for number in range(micro_batches):
        assert np.array_equal(by_rank[number % world_size][number // world_size], alone[number])


@pytest.mark.parametrize(("batch_size", "micro_batches", "world_size"), [(10, 4, 1), (8, 4, 3), (8, 2, 4)])
def test_numbers_that_do_not_divide_are_refused(batch_size: int, micro_batches: int, world_size: int) -> None:
    with pytest.raises(UsageError, match="cannot be divided"):
        micro_batches_of_rank(batch_size, micro_batches, 0, world_size)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("num_rows", [1, 2, 3, 7, 8, 9, 24, 25])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_evaluation_visits_every_row_once(num_rows: int, batch_size: int, world_size: int) -> None:
    rows = np.arange(50, 50 + num_rows)
    by_rank = [evaluation_batches(rows, batch_size, rank, world_size) for rank in range(world_size)]
    assert {tuple(len(batch) for batch in batches) for batches in by_rank} == {(batch_size,) * len(by_rank[0])}, (
        "equal shapes"
    )
    visited = np.concatenate([np.concatenate(batches) for batches in by_rank])
    assert sorted(visited[visited >= 0].tolist()) == rows.tolist()
    needed = -(-num_rows // (batch_size * world_size))
    assert len(by_rank[0]) == needed, "no batch of padding alone on all ranks"


def test_ledger_is_a_chain_of_digests() -> None:
    rows = np.array([3, 1, 2])
    link = hashlib.sha256(hashlib.sha256(b"").digest() + rows.astype("<i8").tobytes()).hexdigest()
    assert extend_ledger(EMPTY_LEDGER, rows) == extend_ledger(EMPTY_LEDGER, rows.astype(np.int32)) == link
    changes = [rows[::-1], rows[:2], np.append(rows, 3), np.array([3, 1, 4])]
    assert len({extend_ledger(EMPTY_LEDGER, changed) for changed in changes} - {link}) == 4
    assert extend_ledger(extend_ledger(EMPTY_LEDGER, rows[:1]), rows[1:]) != link, "batch borders count"


def test_model_seeds_do_not_collide() -> None:
    seeds = {model_seed(seed, step, part) for seed in (0, 1, 2**62) for step in range(500) for part in range(4)}
    assert len({value % 2**32 for value in seeds}) == 6000, "torch uses the low 32 bits on the CPU"


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_classes_get_their_share_of_an_epoch(power: float) -> None:
    """n ** power / sum of n ** power (Kang et al., ICLR 2020, equation 1), up to rounding."""
    drawn = ClassBalanced(LABELS, power)(ROWS, np.random.default_rng(0))
    sizes = np.array([30, 3, 10]) ** power
    counts = np.array([(LABELS[drawn] == label).sum() for label in (7, 8, 9)])
    assert len(drawn) == len(ROWS)
    assert np.abs(counts - len(ROWS) * sizes / sizes.sum()).max() <= 2
    for label in (7, 8, 9):  # the rows of a class are used equally often
        own = np.bincount(drawn[LABELS[drawn] == label])[ROWS[LABELS[ROWS] == label]]
        assert own.max() - own.min() <= 2 if power == 0 else 1


def test_anchors_with_a_positive_are_counted_by_hand() -> None:
    labels = np.array([[4, -1], [4, 2], [5, 2], [-1, 3], [4, 2]])
    assert anchors_with_positive(labels) == (3 + 3, 4 + 4)
    assert anchors_with_positive(np.full((3, 1), -1)) == (0, 0)
    assert anchors_with_positive(np.arange(6)[:, None]) == (0, 6)
