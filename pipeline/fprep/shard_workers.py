"""Shards written side by side by a few processes. One task is one shard; its bytes do not depend on who writes it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import cv2

from fprep.shard_sample import SampleMaker, SampleOptions
from fprep.workers import available_cores, shielded
from fschemas.failures import EnvironmentProblem
from fschemas.publish import die_with_parent
from fschemas.shard import Sample, ShardRecord, record_path, write_shard

# name, split, rows as dicts, copy number of each
ShardTask = tuple[str, str, list[dict[str, Any]], tuple[int, ...]]
Progress = Callable[[int], None]
_STEP = 16  # samples between two looks at the stop sign


class _StoppedError(Exception):
    """The parent gave up; the shard in hand is dropped."""


def write_shards(
    out: Path, plan_id: str, options: SampleOptions, tasks: Iterator[ShardTask], workers: int, progress: Progress | None
) -> dict[str, ShardRecord]:
    """Write the shards of all tasks and return their records by name; `progress` gets the number of samples done so far.

    `workers`: processes, 0 for one per core; with 1 the work is done in this process. Errors of a worker are raised
    here after the others have stopped. Raises `EnvironmentProblem` when a worker dies.
    """
    workers = workers or available_cores()
    if workers == 1:
        return _write_here(out, plan_id, options, tasks, progress)
    return _write_in_pool(out, plan_id, options, tasks, workers, progress)


def _write_here(
    out: Path, plan_id: str, options: SampleOptions, tasks: Iterator[ShardTask], progress: Progress | None
) -> dict[str, ShardRecord]:
    threads, done = cv2.getNumThreads(), 0

    def count(samples: int) -> None:
        nonlocal done
        done += samples
        if progress is not None:
            progress(done)

    try:
        cv2.setNumThreads(1)
        maker = SampleMaker(options)
        return {task[0]: _write(out, plan_id, maker, task, count) for task in tasks}
    finally:
        cv2.setNumThreads(threads)


def _write_in_pool(
    out: Path, plan_id: str, options: SampleOptions, tasks: Iterator[ShardTask], workers: int, progress: Progress | None
) -> dict[str, ShardRecord]:
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    records: dict[str, ShardRecord] = {}
    running: dict[Future[ShardRecord], str] = {}
    pool = ProcessPoolExecutor(workers, context, _start_worker, (out, plan_id, options, counter, stop))
    try:
        while True:
            for task in islice(tasks, workers + 1 - len(running)):  # few: every task carries its rows
                with shielded():
                    future = pool.submit(_write_task, task)
                running[future] = task[0]
            if not running:
                return records
            finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in finished:
                record = future.result()
                records[running.pop(future)] = record
            if progress is not None:
                progress(counter.value)
    except BrokenProcessPool:
        names = ", ".join(sorted(running.values()))
        raise EnvironmentProblem(
            f"{out}: a worker died while one of {names} was written (killed, or out of memory); "
            "use fewer workers and run the command again: finished shards are kept"
        ) from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _write(out: Path, plan_id: str, maker: SampleMaker, task: ShardTask, count: Callable[[int], None]) -> ShardRecord:
    name, split, rows, copies = task
    record_path(out, name).unlink(missing_ok=True)  # else the record of an old shard could vouch for the new one

    def samples() -> Iterator[Sample]:
        for number, (row, copy) in enumerate(zip(rows, copies, strict=True), 1):
            yield maker(row, copy)
            if number % _STEP == 0:
                count(_STEP)
        count(len(rows) % _STEP)

    return write_shard(out, name, split, plan_id, samples())


class _Worker:
    """What a worker process keeps between its shards."""

    def __init__(self, out: Path, plan_id: str, options: SampleOptions, counter: Any, stop: Any) -> None:
        self.out, self.plan_id, self.counter, self.stop = out, plan_id, counter, stop
        self.options = options
        self.maker: SampleMaker | None = None
        self.is_writing = False

    def write(self, task: ShardTask) -> ShardRecord:
        self.maker = self.maker or SampleMaker(self.options)  # here: a wrong recipe is an error and no dead worker
        return _write(self.out, self.plan_id, self.maker, task, self._count)

    def _count(self, samples: int) -> None:
        with self.counter.get_lock():
            self.counter.value += samples
        if self.stop.is_set():
            raise _StoppedError


_workers: list[_Worker] = []  # one entry in a worker process, none in the parent


def _start_worker(out: Path, plan_id: str, options: SampleOptions, counter: Any, stop: Any) -> None:
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        os._exit(1)  # it died before the line above, and nobody would ever tell us
    cv2.setNumThreads(1)
    _workers.append(_Worker(out, plan_id, options, counter, stop))
    signal.signal(signal.SIGTERM, _stop_worker)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))  # a broken pool ends its workers by this; Ctrl-C stays blocked


def _write_task(task: ShardTask) -> ShardRecord:
    worker = _workers[0]
    try:
        worker.is_writing = True
        return worker.write(task)
    except SystemExit as leaving:  # the temporary is removed by now
        os._exit(int(leaving.code or 0))
    finally:
        worker.is_writing = False


def _stop_worker(signum: int, frame: FrameType | None) -> None:
    del frame
    if _workers[0].is_writing:
        raise SystemExit(128 + signum)
    os._exit(128 + signum)
