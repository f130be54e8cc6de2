"""The process pool of `fprep`: an ordered map over tasks that survives workers that die or hang.

Each worker receives a few tasks at a time over its own pipe, so a crash can be attributed to them. They are then
retried one at a time, and a task that kills or blocks its worker again yields the result of `crashed`. The executors of
the standard library do not fit: their named semaphores remain in /dev/shm if all processes are killed at once, and one
dead worker ends the pool.
"""

import contextlib
import math
import multiprocessing
import resource
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import cv2

from fschemas.cores import available_cores
from fschemas.failures import EnvironmentProblem
from fschemas.parent_process import die_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")

MEMORY_LIMIT = 4 << 30  # bytes of address space that untrusted work may add, so that a runaway decoder fails alone
_GRACE = 60.0  # seconds that trusted work gets to clean up after itself
_listeners: list[Callable[[int], None]] = []  # callbacks of `advance`


def map_tasks(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    crashed: Callable[[Task, str], Result] | None = None,
    workers: int = 0,
    trusted: bool = False,
    timeout: float = 60.0,
    chunk: int = 32,
    ahead: int | None = None,
    units: Callable[[Task], int] = lambda _: 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Yield `work(task)` for each task, in order, computed in `workers` processes (0: one per core).

    A task is sent to another process, so it should be a small reference to its input (a path, row numbers). `work` must
    be importable in a new process, and a calling script needs an `if __name__ == "__main__"` guard.

    If the worker of a task dies or is silent for `timeout` seconds, the result is `crashed(task, reason)`, which may
    raise. Without `crashed`, `EnvironmentProblem` is raised, as it is if a worker cannot start. Exceptions in `work`
    are re-raised here.

    Untrusted work (decoding third-party files) always runs in other processes. They get at most `MEMORY_LIMIT` bytes of
    additional memory and are killed if the caller stops early. `trusted` work writes the project's own files: with one
    worker it runs in this process, and if the caller stops early, tasks in progress end at their next `advance` and
    clean up.

    Workers get `chunk` tasks at a time. Each may run at most `ahead` chunks ahead of the next result to be yielded,
    which bounds the results held in memory (None: no limit). `progress(done, total)` counts tasks, or the `units` of
    each task.
    """
    meter = _Meter(progress, sum(map(units, tasks)))
    count = min(workers or available_cores(), math.ceil(len(tasks) / chunk))
    if trusted and count <= 1:
        yield from _map_here(work, tasks, units, meter)
        return
    window = len(tasks) if ahead is None else ahead * count * chunk
    pool = _Pool(work, tasks, crashed or _raise_crash, trusted, timeout, units, meter, window)
    pool.queue.extend(list(range(start, min(start + chunk, len(tasks)))) for start in range(0, len(tasks), chunk))
    try:
        yield from pool.run(count)
    finally:
        pool.stop()


def _raise_crash(_: object, reason: str) -> NoReturn:
    raise EnvironmentProblem(
        f"a worker failed ({reason}); use fewer workers or free some memory, and run the command again"
    )


def advance(units: int) -> None:
    """Report from `work` that `units` more of its task are done. Also shows that the worker is alive."""
    for listener in _listeners:
        listener(units)


@contextlib.contextmanager
def shielded() -> Generator[None]:
    """Shield processes started in this context from Ctrl-C and SIGTERM; they exit with their parent."""
    main = vars(sys.modules["__main__"])
    of_main = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    resource_tracker.ensure_running()  # before masking: starting it unblocks signals
    numbers, came = (signal.SIGINT, signal.SIGTERM), list[int]()
    mine = threading.current_thread() is threading.main_thread()  # only the main thread can set and run handlers
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
            signal.raise_signal(number)  # blocked until the mask is reset below
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@dataclass
class _Meter:
    """Counts units of finished tasks and of tasks in progress."""

    show: Callable[[int, int], None] | None
    total: int
    finished: int = 0
    begun: int = 0

    def report(self) -> None:
        if self.show is not None:
            self.show(self.finished + self.begun, self.total)

    def advance(self, units: int) -> None:
        self.begun += units
        self.report()


def _map_here(
    work: Callable[[Task], Result], tasks: Sequence[Task], units: Callable[[Task], int], meter: _Meter
) -> Iterator[Result]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    _listeners.append(meter.advance)
    try:
        for task in tasks:
            result = work(task)
            meter.finished, meter.begun = meter.finished + units(task), 0
            meter.report()
            yield result
    finally:
        _listeners.pop()
        cv2.setNumThreads(threads)


@dataclass
class _Worker:
    """The parent's end of a worker process. Tasks go out over the pipe; units done, results and errors come back."""

    process: Any
    pipe: Connection
    tasks: list[int] = field(default_factory=list[int])  # in progress
    silent: float = 0.0  # seconds
    begun: int = 0  # units done in the current chunk
    ready: bool = False


@dataclass
class _Pool(Generic[Task, Result]):
    work: Callable[[Task], Result]
    tasks: Sequence[Task]
    crashed: Callable[[Task, str], Result]
    trusted: bool
    timeout: float
    units: Callable[[Task], int]
    meter: _Meter
    window: int  # how many tasks may start ahead of the next result
    queue: deque[list[int]] = field(default_factory=deque[list[int]])
    results: dict[int, Result] = field(default_factory=dict[int, Any])
    workers: list[_Worker] = field(default_factory=list[_Worker])
    yielded: int = 0  # number of results yielded

    def run(self, count: int) -> Iterator[Result]:
        while self.yielded < len(self.tasks):
            for worker in [worker for worker in self.workers if not worker.tasks]:
                self._next(worker)
            while len(self.workers) < count and (chunk := self._chunk()):
                self._start(chunk)
            before = time.monotonic()
            ready = wait([worker.pipe for worker in self.workers], timeout=1.0)
            waited = min(time.monotonic() - before, 2.0)  # less if the whole process group was suspended, as by Ctrl-Z
            for worker in list(self.workers):
                worker.silent = 0.0 if worker.pipe in ready else worker.silent + waited
                if worker.pipe in ready:
                    self._receive(worker)
                elif worker.tasks and worker.silent > self.timeout:
                    self._lose(worker, f"no response for {self.timeout:.0f} seconds")
            self.meter.report()
            while self.yielded in self.results:
                self.yielded += 1
                yield self.results.pop(self.yielded - 1)

    def stop(self) -> None:
        """End all workers. Trusted ones notice the closed pipe and stop their task."""
        for worker in self.workers:
            worker.pipe.close() if self.trusted else worker.process.kill()
        for worker in list(self.workers):
            worker.process.join(_GRACE)
            self._retire(worker)

    def _chunk(self) -> list[int]:
        """Return the indices of the next tasks; empty if none are left or too many results are pending."""
        return self.queue.popleft() if self.queue and self.queue[0][0] < self.yielded + self.window else []

    def _start(self, chunk: list[int]) -> None:
        context = multiprocessing.get_context("forkserver")
        module = getattr(getattr(self.work, "func", self.work), "__module__", "")  # `func` of a functools.partial
        context.set_forkserver_preload([module] if module != "__main__" else [])  # imported once for all workers
        pipe, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, self.work, self.trusted), daemon=True)
        with shielded():
            process.start()
        there.close()
        self.workers.append(_Worker(process, pipe))
        self._send(self.workers[-1], chunk)

    def _send(self, worker: _Worker, chunk: list[int]) -> None:
        worker.tasks = chunk
        with contextlib.suppress(OSError):  # a dead worker is detected at the next receive
            worker.pipe.send([self.tasks[index] for index in chunk])

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode
            reason = f"the process died with signal {-code}" if code < 0 else f"the process ended with code {code}"
            if not worker.ready:
                raise EnvironmentProblem(f"a worker cannot start: {reason}; check the memory limits") from None
            self._lose(worker, reason)
            return
        worker.ready = True
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, int):
            worker.begun += message
            self.meter.begun += message
            return
        for index, result in zip(worker.tasks, message, strict=True):
            self._finish(index, result)
        self.meter.begun -= worker.begun
        worker.tasks, worker.begun = [], 0
        self._next(worker)

    def _finish(self, index: int, result: Result) -> None:
        self.results[index] = result
        self.meter.finished += self.units(self.tasks[index])

    def _next(self, worker: _Worker) -> None:
        """Give an idle worker more tasks, or retire it if the queue is empty."""
        if chunk := self._chunk():
            self._send(worker, chunk)
        elif not self.queue:
            self._retire(worker)

    def _lose(self, worker: _Worker, reason: str) -> None:
        self.meter.begun -= worker.begun
        self._retire(worker)
        if len(worker.tasks) == 1:
            index = worker.tasks[0]
            self._finish(index, self.crashed(self.tasks[index], reason))
        else:  # one at a time and first in the queue: their results may be due
            self.queue.extendleft([index] for index in reversed(worker.tasks))

    def _retire(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)


class _AbandonedError(BaseException):
    """Raised in a worker to abort its task when the caller has stopped."""


def _serve(pipe: Connection, work: Callable[[Any], Any], trusted: bool) -> None:
    """Main loop of a worker; ends when its pipe is closed."""
    die_with_parent()
    cv2.setNumThreads(1)
    if not trusted:
        _limit_memory()

    def report(units: int) -> None:
        try:
            pipe.send(units)
        except OSError:
            raise _AbandonedError from None

    _listeners[:] = [report]
    with contextlib.suppress(EOFError, OSError, _AbandonedError):
        pipe.send(0)  # ready
        while True:
            tasks = pipe.recv()
            try:
                message: Any = [work(task) for task in tasks]
            except Exception as error:  # noqa: BLE001 - re-raised by the parent
                message = error
            pipe.send(message)


def _limit_memory() -> None:
    """Limit the address space to `MEMORY_LIMIT` above its present size.

    The limit is relative because a calling script may have imported torch, which maps several GB.
    """
    try:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        mapped = 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = mapped + MEMORY_LIMIT
    if hard == resource.RLIM_INFINITY or hard > limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
