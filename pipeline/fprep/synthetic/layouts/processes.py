"""Drawing on several cores: an ordered map in fresh processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import cv2

from fprep.engine.local import shielded
from fschemas.parent_process import die_with_parent

Mapper = Callable[[Callable[..., Any], Iterable[Any]], Iterator[Any]]


@contextmanager
def mapper(workers: int, chunk: int = 4) -> Generator[Mapper]:
    """An ordered map: in this process for one worker, else in fresh processes that die with this one."""
    if workers <= 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield map
        finally:
            cv2.setNumThreads(threads)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)

    def begin(work: Callable[..., Any], tasks: Iterable[Any]) -> Iterator[Any]:
        with shielded():  # the processes are started at the first task
            return pool.map(work, tasks, chunksize=chunk)

    try:
        yield begin
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Die with the parent, and stay on one core."""
    die_with_parent()
    cv2.setNumThreads(1)
