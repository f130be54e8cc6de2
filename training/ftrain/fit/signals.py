"""SIGTERM and SIGINT as a wish to stop after the step in hand."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

from fschemas.failures import Terminated


class StopSignals:
    """Within `with`, the first SIGTERM or SIGINT is only remembered in `number`; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.number = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python has no signals
            self._previous = {
                number: signal.signal(number, self._remember) for number in (signal.SIGTERM, signal.SIGINT)
            }
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
    """Raise what a signal asks for, once `step` is saved: `KeyboardInterrupt` or `Terminated`; nothing for 0."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number:
        raise Terminated(f"stopped by a signal after step {step}, which is saved")
