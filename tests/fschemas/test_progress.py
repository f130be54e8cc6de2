"""Progress: a bar in a terminal that always restores the cursor, and a few plain lines elsewhere."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fschemas import progress
from fschemas.progress import Reporter, restore_terminal, show

BIN = Path(sys.executable).parent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    monkeypatch.delenv("RANK", raising=False)
    return made


def work(clock: Clock, seconds: float, total: int, **options: bool) -> None:
    with Reporter(**options):
        for done in range(1, total + 1):
            clock.now += seconds / total
            show("working", done, total)
        show("working", total, total)


@pytest.mark.parametrize(
    ("seconds", "most"),
    [(1, 1), (40, 8), (600, 30), (3600, 60), (24 * 3600, 120)],
    ids=["1 s", "40 s", "10 min", "1 h", "1 d"],
)
def test_plain_lines_are_few_and_end_once(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work(clock, seconds, 5000)
    lines = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert 1 <= len(lines) <= most
    assert [line.startswith("working: 5000/5000") for line in lines] == [False] * (len(lines) - 1) + [True]
    assert all(re.fullmatch(r"working: \d+/5000  [\d.]+ images/s(  \d+:\d\d:\d\d left)?", line) for line in lines)


def test_a_long_log_is_bounded_too(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Reporter():
        for step in range(1, 10_001):
            clock.now += 1.0
            progress.log_progress("training", step, 10_000, f"step {step}/10000", "", always=step == 10_000)
    lines = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert 20 < len(lines) < 100
    assert lines[1] == "step 2/10000  2:46:38 left"
    assert lines[-1] == "step 10000/10000"


def test_a_terminal_has_one_bar_with_what_is_left(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    work(clock, 8, 100)
    text = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert re.search(r"working \[#{12}\.{12}\] 5[0-3]/100  12 images/s  0:00:04 left", text)
    assert "\x1b[?25l" not in text


def test_sentences_stand_above_the_bar(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with Reporter():
        clock.now += 1
        show("working", 1, 3)
        progress.log_line("a word")
        assert sys.stderr.getvalue().endswith("\r\x1b[Ka word\n")  # type: ignore[attr-defined]
        assert restore_terminal() == "\x1b[?25h\r\x1b[K", "a command that ends here wipes the bar"


@pytest.mark.parametrize("how", ["quiet", "rank", "nobody"])
def test_nothing_is_reported_where_nobody_asked(clock: Clock, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    if how == "rank":
        monkeypatch.setenv("RANK", "1")
    if how == "nobody":
        show("working", 1, 3)
    else:
        work(clock, 100, 100, quiet=how == "quiet")
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_terminal_as_it_was(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """In a separate terminal, in the middle of a bar: the cursor is restored, and the last line says how to resume."""
    there, here = pty.openpty()
    words = [BIN / "fprep", "sample", "fashionai-keypoints", tmp_path / "out", "--num-images", "3000", "--workers", "1"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        list(map(str, words)), stdout=here, stderr=here, env=environment, start_new_session=True
    ) as process:
        os.close(here)
        text, sent, deadline = "", False, time.monotonic() + 120
        while time.monotonic() < deadline:
            if not select.select([there], [], [], 1)[0]:
                continue
            try:
                text += os.read(there, 65536).decode()
            except OSError:  # the other end is closed
                break
            if "rendering [" in text and not sent:
                sent = True
                process.send_signal(number)
        try:
            assert process.wait(60) == code, text
        finally:
            process.kill()
    os.close(there)
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), text[-300:]
    last = text.rstrip().rpartition("\x1b[K")[2]
    assert re.match(r"fprep: (interrupted|stopped by SIGTERM); run again, the command starts over$", last), text[-300:]
