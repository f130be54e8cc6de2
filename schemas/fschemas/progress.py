"""Progress on stderr: a bar in a terminal, a few plain lines elsewhere, nothing in quiet mode.

A bar is one line that is overwritten. It needs no thread, which a forking process must not have, and the cursor stays
visible. Every command ends with `restore_terminal`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Self

_SHOW_CURSOR = "\x1b[?25h"
_CLEAR = "\r\x1b[K"
_BETWEEN_FRAMES = 0.1  # seconds
_BAR = 24  # characters
_FIRST_LINES = 20  # log lines that are always written
_SOON, _LATER = 5.0, 30.0  # seconds between plain lines: at a new tenth of the work, and at any time
Progress = Callable[[str, int, int], None]  # stage, done, total
_active: list[Reporter] = []  # reporters of running commands, innermost last
_drawn: list[Reporter] = []  # the reporter whose bar is visible


def no_progress(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def show(stage: str, done: int, total: int) -> None:
    """Report progress to the running command, if any: code deep below a command does not need its reporter."""
    if _active:
        _active[-1](stage, done, total)


def is_live() -> bool:
    """Whether a bar is visible in a terminal, so that a call per step is worthwhile."""
    return bool(_active) and _active[-1].live


def log_progress(stage: str, done: int, total: int, sentence: str, note: str, *, always: bool = False) -> None:
    """Write a log line, see `Reporter.log`; without a running command, only the line itself."""
    if _active:
        _active[-1].log(stage, done, total, sentence, note, always=always)
    else:
        log_line(sentence)


class Reporter:
    """Context manager that reports stages of work; call it with (stage, done, total).

    Without a terminal, a stage writes a line at each new tenth, at least 5 s apart, and otherwise every 30 s or every
    tenth of its elapsed time, whichever is longer: some tens of lines per day. The last line of a stage is written
    once.
    """

    def __init__(self, *, unit: str = "images", units: Mapping[str, str] | None = None, quiet: bool = False) -> None:
        """`unit` is what is counted, `units` overrides it per stage. With several processes, only the first reports."""
        quiet = quiet or os.environ.get("RANK", "0") != "0"
        self.unit, self.units, self.quiet = unit, units or {}, quiet
        self.live = not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.stage, self.note, self.counts = "", "", dict[str, int]()
        self._began, self._first, self._last, self._tenth, self._finished, self._logged = 0.0, 0, 0.0, 0, False, 0

    def __enter__(self) -> Self:
        _active.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _active.remove(self)
        self.leave_line()

    def advance(self, stage: str, more: int, total: int) -> None:
        """Report `more` finished since the last call."""
        self.counts[stage] = self.counts.get(stage, 0) + more
        self(stage, self.counts[stage], total)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report `done` of `total` finished."""
        if self.quiet or total < 1:
            return
        now = time.monotonic()
        self._enter_stage(stage, done, now)
        ends = done >= total
        if self._finished and ends:
            return
        if self.live:
            if ends or now - self._last >= _BETWEEN_FRAMES:
                self._draw(self._bar(done, total, now), now)
        elif total > 1 and (ends or self._due(done, total, now)):
            sys.stderr.write(f"{stage}: {done}/{total}{self._rate(done, total, now)}\n")
        self._finished = ends
        if ends:
            self.leave_line()

    def log(self, stage: str, done: int, total: int, sentence: str, note: str, *, always: bool = False) -> None:
        """Write a log line: the first 20, those with `always`, and others as rarely as plain progress.

        In a terminal, `note` is shown after the bar instead.
        """
        if self.quiet:
            return
        now = time.monotonic()
        self._enter_stage(stage, done, now)
        if self.live:
            self.note = f"  {note}"
            return
        due = self._due(done, total, now)
        if due or always or self._logged < _FIRST_LINES:
            self._logged += 1
            log_line(f"{sentence}{self._eta(done, total, now)}")

    def _enter_stage(self, stage: str, done: int, now: float) -> None:
        if stage != self.stage:
            self.leave_line()
            self.stage, self.note, self._began, self._first = stage, "", now, done
            self._last = 0.0 if self.live else now
            self._tenth, self._finished, self._logged = 0, False, 0

    def _due(self, done: int, total: int, now: float) -> bool:
        waited, tenth = now - self._last, 10 * done // max(1, total)
        if waited < _SOON or (tenth <= self._tenth and waited < max(_LATER, (now - self._began) / 10)):
            return False
        self._last, self._tenth = now, tenth
        return True

    def _bar(self, done: int, total: int, now: float) -> str:
        filled = min(_BAR, _BAR * done // total)
        return f"{self.stage} [{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total}{self._rate(done, total, now)}{self.note}"

    def _rate(self, done: int, total: int, now: float) -> str:
        seconds = now - self._began
        if seconds < 0.2 or done <= self._first:
            return ""
        rate = (done - self._first) / seconds
        shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
        return f"  {shown} {self.units.get(self.stage, self.unit)}/s{self._eta(done, total, now)}"

    def _eta(self, done: int, total: int, now: float) -> str:
        if done <= self._first or done >= total:
            return ""
        left = round((now - self._began) * (total - done) / (done - self._first))
        return f"  {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"

    def _draw(self, line: str, now: float) -> None:
        self._last = now
        if _drawn and _drawn[0] is not self:
            _drawn[0].leave_line()
        _drawn[:] = [self]
        sys.stderr.write(f"{_CLEAR}{line[: _width() - 1]}")
        sys.stderr.flush()

    def leave_line(self) -> None:
        """Keep the current bar and go to the next line."""
        if _drawn and _drawn[0] is self:
            _drawn.clear()
            sys.stderr.write("\n")
            sys.stderr.flush()


def log_line(sentence: str) -> None:
    """Write a line to stderr, above the bar if there is one."""
    sys.stderr.write(f"{_CLEAR if _drawn else ''}{sentence}\n")
    sys.stderr.flush()


def restore_terminal() -> str:
    """Terminal codes to write to stderr at the end of a command: clear a visible bar, show the cursor.

    Other libraries draw bars too and hide the cursor; a signal can arrive before they show it again.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return ""
    _drawn.clear()
    return _SHOW_CURSOR + _CLEAR  # the end of a bar's line may be missing: a signal closes stderr first


def _width() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80
