"""Where the time between two logs went."""

from __future__ import annotations

import time


class Clock:
    """Splits the time since the last log into waiting for data, computing and all the rest (logging, saving)."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin a new stretch now."""
        self.start = self.mark = time.perf_counter()
        self.waited, self.computed, self.images, self.steps = 0.0, 0.0, 0, 0

    def data_arrived(self) -> None:
        """A batch is in hand."""
        now = time.perf_counter()
        self.waited += now - self.mark
        self.mark = now

    def step_done(self, images: int) -> None:
        """The optimizer has taken its step with so many images."""
        now = time.perf_counter()
        self.computed += now - self.mark
        self.mark = now
        self.images += images
        self.steps += 1

    def waiting_begins(self) -> None:
        """The next batch is asked for: what was logged and saved in between was no waiting."""
        self.mark = time.perf_counter()

    def rates(self) -> dict[str, float]:
        """What this stretch was like; begins the next one.

        `images_per_second`; `waiting_share` of its time; `data_seconds` and `compute_seconds`, the mean of a step's waiting for
        its batch and of its work from there to the optimizer (with the transfer to the device, whose end every step waits for).
        """
        seconds, steps = max(1e-9, time.perf_counter() - self.start), max(1, self.steps)
        rates = {
            "images_per_second": self.images / seconds,
            "waiting_share": self.waited / seconds,
            "data_seconds": self.waited / steps,
            "compute_seconds": self.computed / steps,
        }
        self.restart()
        return rates
