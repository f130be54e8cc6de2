"""Threads and data workers by the number of cores, unless the user chooses otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fschemas import cores
from ftrain.fit.distributed import processes, workers_or_default


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cores, "available_cores", lambda: 8)
    monkeypatch.setattr("ftrain.fit.distributed.available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("workers", "threads", "environment", "expected"),
    [
        (0, None, {}, 8),
        (2, None, {}, 7),
        (9, None, {}, 7),
        (2, 3, {}, 3),
        (2, None, {"LOCAL_WORLD_SIZE": "2"}, 4),
        (2, None, {"OMP_NUM_THREADS": "5"}, 4),  # left as it was
        (2, 3, {"OMP_NUM_THREADS": "5"}, 3),
    ],
)
def test_threads_are_the_cores_without_an_eighth_for_data_workers(
    monkeypatch: pytest.MonkeyPatch, workers: int, threads: int | None, environment: dict[str, str], expected: int
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    torch.set_num_threads(4)
    with processes("cpu", workers, threads):
        assert torch.get_num_threads() == expected


@pytest.mark.parametrize(
    ("workers", "device", "gpus", "ranks", "expected"),
    [
        (0, "auto", 1, 1, 0),
        (3, "cpu", 0, 1, 3),
        (None, "auto", 0, 1, 1),
        (None, "auto", 1, 1, 7),
        (None, "cuda", 2, 2, 3),
        (None, "cpu", 1, 1, 1),
    ],
)
def test_workers_suit_the_device(
    monkeypatch: pytest.MonkeyPatch, workers: int | None, device: str, gpus: int, ranks: int, expected: int
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert workers_or_default(workers, device) == expected
