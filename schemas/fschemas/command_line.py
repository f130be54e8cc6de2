"""The frame of both console scripts: every error becomes one sentence and an exit code, a traceback only on `--debug`."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import select
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from fschemas.failures import ExitCode, Terminated, UsageError, explain
from fschemas.parent_process import die_with_dvc
from fschemas.progress import restore_terminal

# What a terminal obeys instead of showing it, what turns text around, and bytes of names that are no text.
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text that may hold names of files and classes of anybody, with escapes for what is no text: `\\x1b`, `\\xff`."""
    return _NO_TEXT.sub(lambda match: _escape(ord(match[0])), text)


def _escape(code: int) -> str:
    code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0  # a byte of a name that is not UTF-8
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shell_word(word: str) -> str:
    """A word of a command line as a shell reads it, on one line that can be copied: `$'a\\x1b'` where a terminal would obey it."""
    if printable(word) == word and "\n" not in word:
        return shlex.quote(word)
    plain = word.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"$'{printable(plain)}'"


def say(value: Any, text: str, *, as_json: bool) -> None:
    """Print the result of a command on stdout: as JSON, or as text."""
    if as_json:
        line = json.dumps(value, ensure_ascii=False)
        text = line if line == printable(line) else json.dumps(value)
    sys.stdout.write(f"{printable(text)}\n")


def say_each(values: Iterable[Any], text: str, *, as_json: bool) -> None:
    """Print the results of a command on stdout: as a line of JSON each, or as one text."""
    if not as_json:
        say(None, text, as_json=False)
        return
    for value in values:
        say(value, "", as_json=True)


def print_version(wanted: bool) -> None:
    """What `--version` does: print the version of the distribution, which all three packages share, and leave."""
    if wanted:
        from importlib.metadata import version

        say(None, f"fashionkit {version('fashionkit')}", as_json=False)
        raise SystemExit(0)


def run_command(command: Callable[[], object], name: str, continues: Collection[str] = ()) -> None:
    """Run a command line and leave the process with its exit code (DESIGN: 0, 2, 3, 4, 5, 6, 130, 143).

    `continues` names the commands that go on from where they were stopped; the others start over, and say so when stopped.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    sys.argv[1:] = map(expand_home, sys.argv[1:])
    die_with_dvc()
    stop = _Stop(debug=debug)
    code, sentence = _run(command, stop, debug=debug)
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        sentence = f"{sentence}; {_after_a_stop(continues)}"
    sentence = printable(sentence).replace("\n", "\\n")  # one line, whatever the names in it
    _leave(code, f"{name}: {sentence}\n" if sentence else "", stop)


def expand_home(argument: str) -> str:
    """An argument with `~` for the home folder, where the shell left it: quoted, in `--out=~/x`, or in a command of DVC.

    What exists under that very name stays as it is.
    """
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    if not (value == "~" or value.startswith("~/")) or Path(value).exists():
        return argument
    return f"{option}{equals}{Path(value).expanduser()}"


class _Stop:
    """What SIGTERM and Ctrl-C do: raise `Terminated` or `KeyboardInterrupt`, and keep the signal's `number`.

    Such errors are raised anywhere. Native code that they come through makes other errors of them and complains on stderr, so
    that is closed from the first signal on. A signal that whoever started us ignores stays ignored.
    """

    def __init__(self, *, debug: bool) -> None:
        self.number = 0  # not the error itself: with it, all frames and what they hold would live on
        self._debug, self._stderr = debug, -1
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._stderr < 0 and not self._debug:
            self._stderr = os.dup(2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        self.number = number
        raise _error_of(number)

    def ignore(self) -> None:
        """From now on it is decided how this ends. Opens stderr again."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if self._stderr >= 0:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os.dup2(self._stderr, 2)


def _after_a_stop(continues: Collection[str]) -> str:
    """What running the command again does; its name is the first word of the command line."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return "run the same command again to continue" if command in continues else "run again, the command starts over"


def _error_of(number: int) -> BaseException:
    if number == signal.SIGTERM:
        return Terminated("stopped by SIGTERM")
    return KeyboardInterrupt()


def _run(command: Callable[[], object], stop: _Stop, *, debug: bool) -> tuple[int, str]:
    """The exit code and what there is to say."""
    try:
        if "" in sys.argv[1:]:  # as a path it would be the current folder
            raise UsageError(f"argument {sys.argv.index('', 1)} is empty; is a variable of the shell not set?")
        result = command()
        sys.stdout.flush()  # here, where a full disk is still an error of ours
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # of which typer makes a 1, without a word
            return _of_broken_pipe(leaving.__context__)
        if not stop.number:
            return leaving.code if isinstance(leaving.code, int) else ExitCode.DONE, ""
    except BaseException as error:
        if isinstance(error, BrokenPipeError):
            return _of_broken_pipe(error)
        show = getattr(error, "show", None)
        if show is not None:  # click's own usage errors
            show()
            return ExitCode.USAGE, ""
        if debug:
            sys.stderr.write(restore_terminal())
            raise
        if not stop.number:
            return explain(error) or (1, _internal(error))
    else:
        code = result if isinstance(result, int) else ExitCode.DONE
        if code != ExitCode.INTERRUPTED:  # what typer makes of Ctrl-C, without a word
            return code, ""
    told = explain(_error_of(stop.number))
    assert told is not None
    return told


def _internal(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {words}; run again with --debug and report it"


def _of_broken_pipe(error: BrokenPipeError) -> tuple[int, str]:
    """No error where the other end of our output is closed, as under `| head`; other pipes lead to workers."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, select.POLLOUT)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        return ExitCode.BROKEN_PIPE, ""
    return explain(error) or (ExitCode.ENVIRONMENT, str(error))


def _leave(code: int, sentence: str, stop: _Stop) -> None:
    """Leave without joining pools or threads: what had to be on disk is there, and a hung worker must not hold the exit."""
    stop.ignore()
    for stream, text in ((sys.stdout, ""), (sys.stderr, restore_terminal() + sentence)):
        with contextlib.suppress(OSError, ValueError):  # a full disk or a closed pipe: nobody can be told
            stream.write(text)
            stream.flush()
    if code:
        gc.collect()  # semaphores of a pool, which are otherwise called leaked
        os._exit(int(code))
    sys.exit(0)
