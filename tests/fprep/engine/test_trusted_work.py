"""Trusted work of `map_tasks`: progress in units, crashes and hangs as errors, and cleanup when the caller stops."""

import os
import time
from functools import partial
from pathlib import Path

import pytest

from fprep.engine import advance, map_tasks
from fschemas.failures import EnvironmentProblem


def report_each_unit(task: int) -> int:
    for _ in range(task):
        advance(1)
    return -task


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_units(workers: int) -> None:
    seen: list[tuple[int, int]] = []
    answers = map_tasks(
        report_each_unit, [3, 0, 5, 1], workers=workers, trusted=True, chunk=1, units=lambda task: task,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert list(answers) == [-3, 0, -5, -1]
    assert seen == sorted(seen)
    assert seen[-1] == (9, 9)


def test_one_worker_is_this_process() -> None:
    assert list(map_tasks(process_of, [0, 1], workers=1, trusted=True)) == [os.getpid()] * 2
    assert os.getpid() not in map_tasks(process_of, [0, 1], workers=1)


def process_of(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize(
    ("work", "reason"), [(os._exit, "ended with code 7"), (time.sleep, "no response for 1 seconds")]
)
def test_a_lost_worker_is_an_error(work, reason: str) -> None:
    with pytest.raises(EnvironmentProblem, match=reason):
        list(map_tasks(work, [7, 7], workers=2, trusted=True, chunk=1, timeout=1.0))


def write_until_abandoned(folder: Path, task: int) -> int:
    if task:
        path = folder / str(task)
        path.touch()
        try:
            while True:
                time.sleep(0.01)
                advance(0)
        finally:
            path.unlink()
    while not os.listdir(folder):
        time.sleep(0.01)
    return task


def test_tasks_in_progress_clean_up_when_the_caller_stops(tmp_path: Path) -> None:
    answers = map_tasks(partial(write_until_abandoned, tmp_path), [0, 1], workers=2, trusted=True, chunk=1)
    assert next(answers) == 0
    answers.close()  # type: ignore[attr-defined]
    assert os.listdir(tmp_path) == []
