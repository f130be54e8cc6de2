"""Timing of training steps between two log lines."""

import time

from ftrain.data.workers import WorkerPool


class Clock:
    """Splits the time since the last log into waiting for data, computing, and the rest (logging, saving).

    All times are those of the host: reading a time from a GPU would wait for it. A GPU works on earlier steps while the
    host waits for data, so the share of waiting is an upper bound of the time that a GPU is idle for want of data. The
    wait for a GPU that is slower than the data does not count.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool
        self.restart()

    def restart(self) -> None:
        """Start a new interval now."""
        self.start, self.waited_before = time.perf_counter(), self.pool.waited
        self.computed, self.images, self.steps = 0.0, 0, 0

    def data_arrived(self) -> None:
        """Record that a step begins."""
        self.mark = time.perf_counter()

    def step_done(self, images: int) -> None:
        """Record that the optimizer has finished a step with this number of images."""
        self.computed += time.perf_counter() - self.mark
        self.images += images
        self.steps += 1

    def rates(self) -> dict[str, float]:
        """Return the rates of this interval and start the next one.

        `images_per_second`; `waiting_share`, fraction of the time spent waiting for data; `data_seconds` and
        `compute_seconds`, mean time per step to wait for its samples and to process it (on a GPU: to issue its work).
        """
        seconds, steps = max(1e-9, time.perf_counter() - self.start), max(1, self.steps)
        waited = self.pool.waited - self.waited_before
        rates = {
            "images_per_second": self.images / seconds,
            "waiting_share": waited / seconds,
            "data_seconds": waited / steps,
            "compute_seconds": self.computed / steps,
        }
        self.restart()
        return rates
