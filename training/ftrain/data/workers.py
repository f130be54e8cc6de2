"""Forked processes that execute the numbered tasks of several streams and finish those of each in order.

Tasks are handed out through one pipe, from which every worker takes the next one when it is free, so a slow task delays
only its own worker. Dead and hung workers are detected and reported.

Reasons not to use torch's DataLoader: it reports a dead worker by raising in whatever the main process is doing,
including a save; SIGTERM or Ctrl-C to the process group kills its workers before the current step can be saved; and its
memory comes from /dev/shm, which is 64 MB in a container. Here every worker has its own pipe for replies, and pipes
transfer only numbers.
"""

import json
import math
import os
import selectors
import signal
import struct
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
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
_TASK = struct.Struct("<2q")  # stream and number; a pipe writes and reads so few bytes at once
_DEFERRED = (signal.SIGINT, signal.SIGTERM)


class WorkerPool:
    """Forked processes that execute the numbered tasks of several streams, such as training and validation batches.

    `works[stream](number)` must leave its result in memory that was shared before `start`. `prepare` runs first in every
    worker. Without workers, the tasks run in this process. Use it as a context manager: leaving it ends the workers.
    """

    def __init__(self, works: Sequence[Work], workers: int, prepare: Callable[[], None]) -> None:
        self.works, self.workers, self.prepare = works, workers, prepare
        self.pool: list[_Worker] = []
        self.replies: dict[tuple[int, int], bytes] = {}  # of done tasks that the caller has not reached
        self.waited = 0.0
        """Seconds that this process has waited for tasks in total; without workers, those it took to execute them."""

    def start(self) -> None:
        """Fork the workers; `in_order` does, if this was not called."""
        if self.pool or not self.workers:
            return
        there, self.tasks = os.pipe()
        self.selector = selectors.DefaultSelector()
        for _ in range(self.workers):
            worker = _Worker(self.works, self.prepare, there)
            self.pool.append(worker)
            self.selector.register(worker.pipe, selectors.EVENT_READ, worker)
        os.close(there)

    def close(self) -> None:
        """End the workers."""
        if not self.pool:
            return
        for worker in self.pool:
            worker.kill()
        while self.pool:
            self.pool.pop().bury()
        self.selector.close()
        os.close(self.tasks)
        self.replies.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def in_order(self, stream: int, numbers: Sequence[int], ahead: int, timeout: float) -> Generator[int]:
        """Yield each number of a stream, in order, once its task is done.

        While the caller holds a number, the `ahead` next ones are in progress or done. They stay so while another
        stream is read. Closing the iterator early ends the workers. Raises the error of the first task, in order, that
        failed, and `EnvironmentProblem` if a worker dies or none responds for `timeout` seconds.
        """
        if self.workers == 0:
            for number in numbers:
                start = time.perf_counter()
                self.works[stream](number)
                self.waited += time.perf_counter() - start
                yield number
            return
        try:
            self.start()
            self._begin(stream, numbers[:ahead])
            for position, number in enumerate(numbers):
                self._begin(stream, numbers[position + ahead : position + ahead + 1])
                self._finish((stream, number), timeout)
                yield number
        except BaseException:
            self.close()
            raise

    def _begin(self, stream: int, numbers: Iterable[int]) -> None:
        """Hand out tasks; `_finish` detects dead workers."""
        with suppress(BrokenPipeError):
            for number in numbers:
                os.write(self.tasks, _TASK.pack(stream, number))

    def _finish(self, task: tuple[int, int], timeout: float) -> None:
        """Wait for a task; raises its error."""
        start = time.perf_counter()
        while task not in self.replies:
            self._receive(timeout)
        self.waited += time.perf_counter() - start
        reply = self.replies.pop(task)
        if reply:
            failure = json.loads(reply)
            known = _ERRORS.get(failure["code"])
            raise known(failure["text"]) if known else RuntimeError(f"in a data worker:\n{failure['text']}")

    def _receive(self, timeout: float) -> None:
        """Wait until some workers reply, and take a reply from each of these."""
        # In slices, so that time during which the machine or process group was suspended does not count.
        for _ in range(math.ceil(timeout)):
            if ready := self.selector.select(min(1.0, timeout)):
                break
        else:
            raise EnvironmentProblem(
                f"a data worker has not responded for {timeout:g} seconds; check the storage and run the same command again"
            )
        for key, _ in ready:
            reply = key.data.reply()
            self.replies[_TASK.unpack_from(reply)] = reply[_TASK.size :]


class _Worker:
    """The parent's end of a worker process."""

    def __init__(self, works: Sequence[Work], prepare: Callable[[], None], tasks: int) -> None:
        self.pipe, there = Pipe(duplex=False)
        parent = os.getpid()
        # Blocked during the fork and for the lifetime of the worker: the parent handles signals to the process group.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _DEFERRED)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # a worker does not need the parent's threads
                self.process = os.fork()
            if self.process == 0:
                _live(tasks, there, works, prepare, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        there.close()

    def reply(self) -> bytes:
        """Take the next reply. Raises `EnvironmentProblem` if the process has ended."""
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


def _live(tasks: int, replies: Connection, works: Sequence[Work], prepare: Callable[[], None], parent: int) -> None:
    """Main loop of a worker; never returns."""
    code = 1
    try:
        die_with_parent()
        prepare()
        _close_all_but(0, 1, 2, tasks, replies.fileno())
        while os.getppid() == parent and (task := os.read(tasks, _TASK.size)):
            stream, number = _TASK.unpack(task)
            replies.send_bytes(task + _run(works[stream], number))
        code = 0
    except OSError:
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
