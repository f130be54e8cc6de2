"""Timing of training steps between two log lines."""

import time


class Clock:
    """Splits the time since the last log into waiting for data, computing, and the rest (logging, saving)."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start a new interval now."""
        self.start = self.mark = time.perf_counter()
        self.waited, self.computed, self.images, self.steps = 0.0, 0.0, 0, 0

    def data_arrived(self) -> None:
        """Record that a batch has arrived."""
        now = time.perf_counter()
        self.waited += now - self.mark
        self.mark = now

    def step_done(self, images: int) -> None:
        """Record that the optimizer has finished a step with this number of images."""
        now = time.perf_counter()
        self.computed += now - self.mark
        self.mark = now
        self.images += images
        self.steps += 1

    def waiting_begins(self) -> None:
        """Record that the next batch is requested; the time since the last step (logging, saving) is not waiting."""
        self.mark = time.perf_counter()

    def rates(self) -> dict[str, float]:
        """Return the rates of this interval and start the next one.

        `images_per_second`; `waiting_share`, fraction of the time spent waiting for data; `data_seconds` and
        `compute_seconds`, mean time per step to wait for the batch and to process it (including the transfer to the
        device, which every step waits for).
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
