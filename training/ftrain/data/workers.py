"""Forked processes that execute numbered tasks and finish them in order.

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
import traceback
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from fschemas.failures import EnvironmentProblem, ExitCode, FashionkitError, IntegrityError, UsageError, explain
from fschemas.parent_process import die_with_parent

Work = Callable[[int], None]
_ERRORS: dict[int, type[FashionkitError]] = {
    error.exit_code: error for error in (UsageError, EnvironmentProblem, IntegrityError)
}
_DEFERRED = (signal.SIGINT, signal.SIGTERM)


def in_order(
    work: Work, numbers: Sequence[int], *, workers: int, ahead: int, timeout: float, prepare: Callable[[], None]
) -> Generator[int]:
    """Yield each number, in order, once `work(number)` is done; `work` must leave its result in shared memory.

    While the caller holds a number, at most `ahead * workers` later ones are in progress. `prepare` runs first in every
    worker. Without workers, `work` runs in this process. Closing the iterator ends the workers.

    Raises the errors of `work`, and `EnvironmentProblem` if a worker dies or does not respond for `timeout` seconds.
    """
    if workers == 0:
        for number in numbers:
            work(number)
            yield number
        return
    pool: list[_Worker] = []
    try:
        for _ in range(min(workers, len(numbers))):
            pool.append(_Worker(work, prepare))  # noqa: PERF401 - keep started workers in `pool` if the next one fails
        begun = ahead * len(pool)
        for position, number in enumerate(numbers[:begun]):
            pool[position % len(pool)].begin(number)
        for position, number in enumerate(numbers):
            worker = pool[position % len(pool)]
            worker.finish(timeout)
            if position + begun < len(numbers):
                worker.begin(numbers[position + begun])
            yield number
    finally:
        for worker in pool:
            worker.kill()
        for worker in pool:
            worker.bury()


class _Worker:
    """The parent's end of a worker process."""

    def __init__(self, work: Work, prepare: Callable[[], None]) -> None:
        self.pipe, there = Pipe()
        parent = os.getpid()
        # Blocked during the fork and for the lifetime of the worker: the parent handles signals to the process group.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _DEFERRED)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # a worker does not need the parent's threads
                self.process = os.fork()
            if self.process == 0:
                _live(there, work, prepare, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        there.close()

    def begin(self, number: int) -> None:
        """Start a task; `finish` detects a dead worker."""
        with suppress(OSError):
            self.pipe.send_bytes(number.to_bytes(8, "little"))

    def finish(self, timeout: float) -> None:
        """Wait for the oldest started task; raises its error."""
        # In slices, so that time during which the machine or process group was suspended does not count.
        for _ in range(math.ceil(timeout)):
            if self.pipe.poll(min(1.0, timeout)):
                break
        else:
            raise EnvironmentProblem(
                f"a data worker has not responded for {timeout:g} seconds; check the storage and run the same command again"
            )
        try:
            reply = self.pipe.recv_bytes()
        except (EOFError, OSError):
            raise EnvironmentProblem(f"a data worker {self._end()}; run the same command again") from None
        if reply:
            failure = json.loads(reply)
            known = _ERRORS.get(failure["code"])
            raise known(failure["text"]) if known else RuntimeError(f"in a data worker:\n{failure['text']}")

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


def _live(pipe: Connection, work: Work, prepare: Callable[[], None], parent: int) -> None:
    """Main loop of a worker; never returns."""
    code = 1
    try:
        die_with_parent()
        prepare()
        _close_all_but(0, 1, 2, pipe.fileno())
        while os.getppid() == parent:
            number = int.from_bytes(pipe.recv_bytes(), "little")
            pipe.send_bytes(_run(work, number))
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
