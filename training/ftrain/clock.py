"""Where the time between two logs went."""

from __future__ import annotations

import time


class Clock:
    """Splits the time since the last log into waiting for data and all the rest."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin a new stretch now."""
        self.start = self.mark = time.perf_counter()
        self.waited, self.images = 0.0, 0

    def data_arrived(self) -> None:
        """A batch is in hand."""
        self.waited += time.perf_counter() - self.mark

    def step_done(self, images: int) -> None:
        """The optimizer has taken its step with so many images."""
        self.images += images

    def waiting_begins(self) -> None:
        """The next batch is asked for: what was logged and saved in between was no waiting."""
        self.mark = time.perf_counter()

    def rates(self) -> dict[str, float]:
        """`images_per_second` and `waiting_share` of this stretch; begins the next one."""
        seconds = max(1e-9, time.perf_counter() - self.start)
        rates = {"images_per_second": self.images / seconds, "waiting_share": self.waited / seconds}
        self.restart()
        return rates
