"""Commands compute on the cores that their data workers leave free, unless the user chooses otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fschemas import cores
from ftrain.fit.distributed import processes


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cores, "available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("workers", "threads", "environment", "expected"),
    [
        (0, None, {}, 8),
        (2, None, {}, 6),
        (9, None, {}, 1),
        (2, 3, {}, 3),
        (2, None, {"LOCAL_WORLD_SIZE": "2"}, 2),
        (2, None, {"OMP_NUM_THREADS": "5"}, 4),  # left as it was
        (2, 3, {"OMP_NUM_THREADS": "5"}, 3),
    ],
)
def test_threads_are_the_cores_without_the_data_workers(
    monkeypatch: pytest.MonkeyPatch, workers: int, threads: int | None, environment: dict[str, str], expected: int
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    torch.set_num_threads(4)
    with processes("cpu", workers, threads):
        assert torch.get_num_threads() == expected
