"""A few worker processes that may die or hang without taking the work with them.

Each worker gets a chunk at a time over its own pipe, so a death is known to belong to that chunk; its tasks are then tried
one by one, and a task that kills or blocks a worker alone gets the answer of `crashed`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from fschemas.cores import available_cores
from fschemas.failures import EnvironmentProblem
from fschemas.parent_process import die_with_parent

Task = TypeVar("Task")
Answer = TypeVar("Answer")

CHUNK = 32
MEMORY_LIMIT = 4 << 30  # bytes of address space that the work of a worker may add: a decoder that goes wild fails alone


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    tasks: list[int]
    since: float
    ready: bool = False


def run_isolated(
    work: Callable[[Task], Answer],
    tasks: Sequence[Task],
    *,
    crashed: Callable[[Task, str], Answer],
    workers: int = 0,
    seconds: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
    preload: tuple[str, ...] = (),
) -> list[Answer]:
    """`[work(task) for task in tasks]` in `workers` processes (0: one per core).

    A task whose worker dies, or gives no answer for `seconds`, is answered by `crashed(task, reason)`. An exception in `work`
    is raised here; a worker that cannot even start is an `EnvironmentProblem`. `preload` names modules that workers need,
    imported once. `work` must be importable by a fresh process, and a script that comes here needs a `__main__` guard.
    """
    return list(
        iterate_isolated(
            work,
            tasks,
            crashed=crashed,
            workers=workers,
            seconds=seconds,
            progress=progress,
            preload=preload,
            ahead=None,
        )
    )


def iterate_isolated(
    work: Callable[[Task], Answer],
    tasks: Sequence[Task],
    *,
    crashed: Callable[[Task, str], Answer],
    workers: int = 0,
    seconds: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
    preload: tuple[str, ...] = (),
    chunk: int = CHUNK,
    ahead: int | None = 3,
) -> Iterator[Answer]:
    """As `run_isolated`, answer by answer in the order of the tasks, so that they need not all fit into memory.

    Workers get `chunk` tasks at a time, and wait when they are `ahead` chunks each before the one asked for.
    """
    if not tasks:
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    count = min(workers or available_cores(), (len(tasks) + chunk - 1) // chunk)
    window = len(tasks) if ahead is None else ahead * count * chunk
    runner = _Runner(context, work, tasks, crashed, seconds, chunk, window)
    try:
        yield from runner.run(count, progress)
    finally:
        runner.stop()


@contextlib.contextmanager
def shielded() -> Generator[None]:
    """Start processes that Ctrl-C and SIGTERM do not reach: their parent decides what these mean, and they die with it.

    A signal that comes meanwhile takes effect at the end. To block it is not enough for that: where a native library has threads,
    one of them takes the signal, Python's handler runs all the same, and a child that was begun finds no message and complains.

    The new process does not run the main module of this one again: all work is in our packages, and the script of a user of the
    Python API may have no `if __name__ == "__main__"`, may import torch, or may be no file.
    """
    main = vars(sys.modules["__main__"])
    of_main = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    resource_tracker.ensure_running()  # now: starting it lets signals through again
    numbers, came = (signal.SIGINT, signal.SIGTERM), list[int]()
    mine = threading.current_thread() is threading.main_thread()  # where alone handlers run and can be set
    handlers = {number: handler for number in numbers if mine and callable(handler := signal.getsignal(number))}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        for number in handlers:
            signal.signal(number, lambda number, _: came.append(number))
        main.update(dict.fromkeys(of_main))
        yield
    finally:
        main.update(of_main)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)  # blocked until the next line
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class _Runner(Generic[Task, Answer]):
    def __init__(self, context: Any, work: Callable[[Task], Answer], tasks: Sequence[Task],
                 crashed: Callable[[Task, str], Answer], seconds: float, chunk: int, window: int) -> None:  # fmt: skip
        self.context, self.work, self.tasks, self.crashed, self.seconds = context, work, tasks, crashed, seconds
        self.queue = deque(list(range(start, min(start + chunk, len(tasks)))) for start in range(0, len(tasks), chunk))
        self.answers: dict[int, Answer] = {}
        self.workers: list[_Worker] = []
        self.given, self.window = 0, window  # answers handed out, and how far before them tasks may be begun

    def run(self, count: int, progress: Callable[[int, int], None] | None) -> Iterator[Answer]:
        while self.given < len(self.tasks):
            for worker in [worker for worker in self.workers if not worker.tasks]:
                self._next(worker)
            while len(self.workers) < count and (chunk := self._chunk()):
                self.workers.append(self._start(chunk))
            ready = wait([worker.pipe for worker in self.workers], timeout=1.0)
            for worker in [worker for worker in self.workers if worker.pipe in ready]:
                self._receive(worker)
            late = [
                worker for worker in self.workers if worker.tasks and time.monotonic() - worker.since > self.seconds
            ]
            for worker in late:
                self._lose(worker, f"no answer for {self.seconds:.0f} seconds")
            if progress is not None:
                progress(self.given + len(self.answers), len(self.tasks))
            while self.given in self.answers:
                self.given += 1
                yield self.answers.pop(self.given - 1)

    def _chunk(self) -> list[int]:
        """The next tasks; none where there are no more, or where the answers before them are still waited for."""
        return self.queue.popleft() if self.queue and self.queue[0][0] < self.given + self.window else []

    def stop(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()
        self.workers.clear()

    def _start(self, chunk: list[int]) -> _Worker:
        here, there = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(there, self.work), daemon=True)
        with shielded():
            process.start()
        there.close()
        worker = _Worker(process, here, chunk, time.monotonic())
        self._send(worker, chunk)
        return worker

    def _send(self, worker: _Worker, chunk: list[int]) -> None:
        worker.tasks, worker.since = chunk, time.monotonic()
        with contextlib.suppress(OSError):  # a dead worker is noticed by the next receive
            worker.pipe.send([self.tasks[index] for index in chunk])

    def _receive(self, worker: _Worker) -> None:
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode
            reason = f"the process died with signal {-code}" if code < 0 else f"the process ended with code {code}"
            if not worker.ready:
                raise EnvironmentProblem(f"a worker cannot start: {reason}; check the memory limits") from None
            self._lose(worker, reason)
            return
        if not worker.ready:
            worker.ready, worker.since = True, time.monotonic()
            return
        if isinstance(answer, BaseException):
            raise answer
        self.answers.update(zip(worker.tasks, answer, strict=True))
        worker.tasks = []
        self._next(worker)

    def _next(self, worker: _Worker) -> None:
        """More work for an idle worker, which is not needed any longer once the queue is empty."""
        if chunk := self._chunk():
            self._send(worker, chunk)
        elif not self.queue:
            self._retire(worker)

    def _lose(self, worker: _Worker, reason: str) -> None:
        if len(worker.tasks) == 1:
            index = worker.tasks[0]
            self.answers[index] = self.crashed(self.tasks[index], reason)
        else:
            self.queue.extendleft(
                [index] for index in reversed(worker.tasks)
            )  # at once: their answers may be waited for
        self._retire(worker)

    def _retire(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)


def _address_space() -> int:
    """Bytes that this process has mapped: a script that calls us may have brought torch, which maps several GB."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return 0


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    die_with_parent()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + MEMORY_LIMIT
    if hard == resource.RLIM_INFINITY or hard > limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        pipe.send(None)  # ready
        while True:
            tasks = pipe.recv()
            try:
                answer: Any = [work(task) for task in tasks]
            except Exception as error:  # noqa: BLE001  (handed to the parent, which raises it)
                answer = error
            pipe.send(answer)
