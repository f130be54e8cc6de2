"""Progress on stderr: a bar in a terminal, a line every few seconds elsewhere, nothing when asked to be quiet."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 5.0


class Reporter:
    """Reports stages of work. Use as a context manager; call it with (stage, done, total)."""

    def __init__(self, *, unit: str = "images", quiet: bool = False) -> None:
        self.unit, self.quiet = unit, quiet
        self.console = Console(stderr=True)
        self.start: dict[str, float] = {}
        self.last_line = time.monotonic()
        self.bars: dict[str, TaskID] = {}
        self.counts: dict[str, int] = {}
        rate = TextColumn("{task.fields[rate]}")
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn(),
            console=self.console, disable=quiet or not self.console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def advance(self, stage: str, more: int, total: int) -> None:
        """Show that `more` are through since the last call."""
        self.counts[stage] = self.counts.get(stage, 0) + more
        self(stage, self.counts[stage], total)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` are through."""
        now = time.monotonic()
        start = self.start.setdefault(stage, now)
        rate = f"{done / (now - start):.0f} {self.unit}/s" if now - start > 0.2 else ""
        if self.console.is_terminal:
            if stage not in self.bars:
                self.bars[stage] = self.progress.add_task(stage, total=total, rate=rate)
            self.progress.update(self.bars[stage], completed=done, total=total, rate=rate)
        elif not self.quiet and total > 1 and (done >= total or now - self.last_line > _SECONDS_BETWEEN_LINES):
            self.last_line = now
            sys.stderr.write(f"{stage}: {done}/{total}  {rate}\n")
