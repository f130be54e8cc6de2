"""Shared by the tests of the trainers: a small shard set, and a server that forks runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.ftrain.forks import ForkServer
from tests.shard_sets import write_shard_set

from fschemas.shard_set import ShardSet


@pytest.fixture(scope="session")
def shard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 training samples in 6 shards, 13 validation samples; read-only."""
    return write_shard_set(tmp_path_factory.mktemp("shards") / "set", {"train": 45, "val": 13})


@pytest.fixture(scope="session")
def shards(shard_folder: Path) -> ShardSet:
    return ShardSet.open(shard_folder)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    server = ForkServer(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@pytest.fixture
def rendered() -> None:
    """For tests that look at plots."""


@pytest.fixture(autouse=True)
def _plots_are_laid_out_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the rendering of plots, which takes most of the time of an evaluation."""
    if "rendered" not in request.fixturenames:
        print_figure = "matplotlib.backends.backend_agg.FigureCanvasAgg.print_figure"
        monkeypatch.setattr(print_figure, lambda _, content, **__: content.write(b"a plot"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one thread, like the forked runs, because the last bits of sums depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
