"""SIGTERM and SIGINT as a request to stop after the current step."""

import signal
import threading
from types import FrameType
from typing import Any, Self

from fschemas.failures import Terminated


class StopSignals:
    """Context manager that stores the first SIGTERM or SIGINT in `number`; a second Ctrl-C interrupts immediately."""

    def __init__(self) -> None:
        self.number = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python handles signals only in the main thread
            stops = (signal.SIGTERM, signal.SIGINT)
            self._previous = {number: signal.signal(number, self._remember) for number in stops}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == self.number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


def stop_for(number: int, step: int) -> None:
    """Raise `KeyboardInterrupt` or `Terminated` for a signal, after `step` is saved; do nothing for 0."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number:
        raise Terminated(f"stopped by a signal after step {step}, which is saved")
