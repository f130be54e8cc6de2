"""Forked processes that execute the numbered tasks of several streams and finish those of each in order.

Dead and hung workers are detected and reported.

Reasons not to use torch's DataLoader: it reports a dead worker by raising in whatever the main process is doing,
including a save; SIGTERM or Ctrl-C to the process group kills its workers before the current step can be saved; and its
memory comes from /dev/shm, which is 64 MB in a container. Here every worker has its own pipe, which transfers only
numbers.
"""

import json
import math
import os
import signal
import struct
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Self

from fschemas.failures import EnvironmentProblem, ExitCode, FashionkitError, IntegrityError, UsageError, explain
from fschemas.parent_process import die_with_parent

Work = Callable[[int], None]
_ERRORS: dict[int, type[FashionkitError]] = {
    error.exit_code: error for error in (UsageError, EnvironmentProblem, IntegrityError)
}
_TASK = struct.Struct("<2q")  # stream and number
_DEFERRED = (signal.SIGINT, signal.SIGTERM)
_AHEAD = 2  # tasks of a stream that a worker may be ahead of the caller


def tasks_ahead(workers: int) -> int:
    """Largest number of tasks of a stream that are in progress or done while the caller holds an earlier one."""
    return workers * _AHEAD


class WorkerPool:
    """Forked processes that execute the numbered tasks of several streams, such as training and validation batches.

    `works[stream](number)` must leave its result in memory that was shared before `start`. `prepare` runs first in every
    worker. Without workers, the tasks run in this process. Use it as a context manager: leaving it ends the workers.
    """

    def __init__(self, works: Sequence[Work], workers: int, prepare: Callable[[], None]) -> None:
        self.works, self.workers, self.prepare = works, workers, prepare
        self.pool: list[_Worker] = []

    def start(self) -> None:
        """Fork the workers; `in_order` does, if this was not called."""
        while len(self.pool) < self.workers:
            self.pool.append(_Worker(self.works, self.prepare))

    def close(self) -> None:
        """End the workers."""
        for worker in self.pool:
            worker.kill()
        while self.pool:
            self.pool.pop().bury()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def in_order(self, stream: int, numbers: Sequence[int], timeout: float) -> Generator[int]:
        """Yield each number of a stream, in order, once its task is done.

        While the caller holds a number, at most `tasks_ahead` later ones are in progress. They stay so while another
        stream is read. Closing the iterator early ends the workers. Raises the errors of tasks, and
        `EnvironmentProblem` if a worker dies or does not respond for `timeout` seconds.
        """
        if self.workers == 0:
            for number in numbers:
                self.works[stream](number)
                yield number
            return
        try:
            self.start()
            pool, ahead = self.pool, tasks_ahead(self.workers)
            for position, number in enumerate(numbers[:ahead]):
                pool[position % len(pool)].begin((stream, number))
            for position, number in enumerate(numbers):
                worker = pool[position % len(pool)]
                worker.finish((stream, number), timeout)
                if position + ahead < len(numbers):
                    worker.begin((stream, numbers[position + ahead]))
                yield number
        except BaseException:
            self.close()
            raise


class _Worker:
    """The parent's end of a worker process."""

    def __init__(self, works: Sequence[Work], prepare: Callable[[], None]) -> None:
        self.pipe, there = Pipe()
        self.begun: deque[tuple[int, int]] = deque()  # stream and number of each task without a reply
        self.replies: dict[tuple[int, int], bytes] = {}
        parent = os.getpid()
        # Blocked during the fork and for the lifetime of the worker: the parent handles signals to the process group.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _DEFERRED)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # a worker does not need the parent's threads
                self.process = os.fork()
            if self.process == 0:
                _live(there, works, prepare, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        there.close()

    def begin(self, task: tuple[int, int]) -> None:
        """Start a task; `finish` detects a dead worker."""
        self.begun.append(task)
        with suppress(OSError):
            self.pipe.send_bytes(_TASK.pack(*task))

    def finish(self, task: tuple[int, int], timeout: float) -> None:
        """Wait for a started task; raises its error."""
        while task not in self.replies:
            self.replies[self.begun[0]] = self._reply(timeout)
            self.begun.popleft()
        reply = self.replies.pop(task)
        if reply:
            failure = json.loads(reply)
            known = _ERRORS.get(failure["code"])
            raise known(failure["text"]) if known else RuntimeError(f"in a data worker:\n{failure['text']}")

    def _reply(self, timeout: float) -> bytes:
        # In slices, so that time during which the machine or process group was suspended does not count.
        for _ in range(math.ceil(timeout)):
            if self.pipe.poll(min(1.0, timeout)):
                break
        else:
            raise EnvironmentProblem(
                f"a data worker has not responded for {timeout:g} seconds; check the storage and run the same command again"
            )
        try:
            return self.pipe.recv_bytes()
        except (EOFError, OSError):
            raise EnvironmentProblem(f"a data worker {self._end()}; run the same command again") from None

    def kill(self) -> None:
        """Kill the process immediately: it writes only shared memory that is no longer read."""
        if self.process:
            os.kill(self.process, signal.SIGKILL)

    def bury(self) -> None:
        """Wait until a killed process has ended."""
        self.pipe.close()
        if self.process:
            os.waitpid(self.process, 0)

    def _end(self) -> str:
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        self.process = 0
        if code == -signal.SIGKILL:
            return "was killed (SIGKILL), perhaps out of memory; use fewer workers or free some memory"
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _live(pipe: Connection, works: Sequence[Work], prepare: Callable[[], None], parent: int) -> None:
    """Main loop of a worker; never returns."""
    code = 1
    try:
        die_with_parent()
        prepare()
        _close_all_but(0, 1, 2, pipe.fileno())
        while os.getppid() == parent:
            stream, number = _TASK.unpack(pipe.recv_bytes())
            pipe.send_bytes(_run(works[stream], number))
    except (EOFError, OSError):
        code = 0
    except BaseException:  # noqa: BLE001 - printed here; the parent detects the closed pipe
        traceback.print_exc()
    finally:
        os._exit(code)


def _close_all_but(*kept: int) -> None:
    """Close the parent's open files except `kept`: its lock and its connections must not outlive it."""
    for name in os.listdir("/dev/fd"):
        if int(name) not in kept:
            with suppress(OSError):  # one of them was the directory listing itself
                os.close(int(name))


def _run(work: Work, number: int) -> bytes:
    """Run a task and return nothing if it succeeds, otherwise its error."""
    try:
        work(number)
    except Exception as error:  # noqa: BLE001 - re-raised in the parent
        code, text = explain(error) or (ExitCode.DONE, traceback.format_exc())
        return json.dumps({"code": int(code), "text": text}).encode()
    return b""
