"""Shards written side by side by a few processes. One task is one shard; its bytes do not depend on who writes it.

Over pipes and not by an executor: its named semaphores stay behind in /dev/shm when all processes are killed at once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any, cast

import cv2

from fprep.engine.local import shielded
from fprep.shard.sample import SampleMaker, SampleOptions
from fschemas.cores import available_cores
from fschemas.failures import EnvironmentProblem
from fschemas.parent_process import die_with_parent
from fschemas.shard import Sample, ShardRecord, record_path, write_shard

# name, split, rows as dicts, copy number of each
ShardTask = tuple[str, str, list[dict[str, Any]], tuple[int, ...]]
Progress = Callable[[int], None]
_STEP = 16  # samples between two messages to the parent


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
    records: dict[str, ShardRecord] = {}
    pool: list[_Worker] = []
    done = 0
    try:
        for task in islice(tasks, workers):
            pool.append(_Worker(context, out, plan_id, options))  # in the list before anything can fail
            pool[-1].give(task)
        upcoming = next(tasks, None)  # one only: every task carries its rows
        while busy := {worker.pipe: worker for worker in pool if worker.shard}:
            for pipe in wait(busy, timeout=1.0):
                answer = busy[cast("Connection", pipe)].receive(out)
                if isinstance(answer, int):
                    done += answer
                    continue
                records[answer.name] = answer
                if upcoming is not None:
                    busy[cast("Connection", pipe)].give(upcoming)
                    upcoming = next(tasks, None)
            if progress is not None:
                progress(done)
        return records
    finally:
        for worker in pool:
            worker.pipe.close()  # which a worker notices at its next message, and drops the shard in hand
        for worker in pool:
            worker.process.join()


class _Worker:
    """The parent's end of a worker process: a pipe, over which tasks go and counts of samples, records and errors come."""

    def __init__(self, context: SpawnContext, out: Path, plan_id: str, options: SampleOptions) -> None:
        self.pipe, there = context.Pipe()
        self.shard = ""  # in hand
        self.process = context.Process(target=_serve, args=(there, out, plan_id, options), daemon=True)
        with shielded():
            self.process.start()
        there.close()

    def give(self, task: ShardTask) -> None:
        """Hand over a task; a dead worker is noticed by `receive`."""
        self.shard = task[0]
        with contextlib.suppress(OSError):
            self.pipe.send(task)

    def receive(self, out: Path) -> int | ShardRecord:
        """A number of samples done, or the record of the finished shard; raises what the worker raised."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            raise EnvironmentProblem(
                f"{out}: a worker died while {self.shard} was written (killed, or out of memory); "
                "use fewer workers and run the command again: finished shards are kept"
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        if not isinstance(answer, int):
            self.shard = ""
        return answer


def _serve(pipe: Connection, out: Path, plan_id: str, options: SampleOptions) -> None:
    """The life of a worker, to which neither Ctrl-C nor SIGTERM comes; it ends with its pipe."""
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        return  # it died before the line above, and nobody would ever tell us
    cv2.setNumThreads(1)
    maker: SampleMaker | None = None
    with contextlib.suppress(EOFError, OSError):  # the pipe is closed: the parent gave up
        while True:
            task = pipe.recv()
            try:
                maker = maker or SampleMaker(options)  # here: a wrong recipe is an error and no dead worker
                answer: Any = _write(out, plan_id, maker, task, pipe.send)
            except ConnectionError:
                return
            except Exception as error:  # noqa: BLE001 - raised again by the parent
                answer = error
            pipe.send(answer)


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
