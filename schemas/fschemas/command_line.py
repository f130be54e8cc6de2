"""Entry point of both console scripts: errors become one sentence and an exit code; tracebacks only with `--debug`."""

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

# Terminal control characters, bidirectional overrides, and bytes of file names that are not valid UTF-8.
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Escape unprintable characters, e.g. in names of files and classes from other sources: `\\x1b`, `\\xff`."""
    return _NO_TEXT.sub(lambda match: _escape(ord(match[0])), text)


def _escape(code: int) -> str:
    code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0  # a byte of a file name that is not valid UTF-8
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shell_word(word: str) -> str:
    """Quote a word of a command line for the shell, on one copyable line; `$'a\\x1b'` for control characters."""
    if printable(word) == word and "\n" not in word:
        return shlex.quote(word)
    plain = word.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"$'{printable(plain)}'"


def print_result(value: Any, text: str, *, as_json: bool) -> None:
    """Print the result of a command to stdout, as JSON or as text."""
    if as_json:
        line = json.dumps(value, ensure_ascii=False)
        text = line if line == printable(line) else json.dumps(value)
    sys.stdout.write(f"{printable(text)}\n")


def print_results(values: Iterable[Any], text: str, *, as_json: bool) -> None:
    """Print the results of a command to stdout, as JSON Lines or as one text."""
    if not as_json:
        print_result(None, text, as_json=False)
        return
    for value in values:
        print_result(value, "", as_json=True)


def print_version(wanted: bool) -> None:
    """Callback of `--version`: print the version of the distribution, which all three packages share, and exit."""
    if wanted:
        from importlib.metadata import version

        print_result(None, f"fashionkit {version('fashionkit')}", as_json=False)
        raise SystemExit(0)


def run_command(command: Callable[[], object], name: str, continues: Collection[str] = ()) -> None:
    """Run a command line and exit with its exit code (0, 2, 3, 4, 5, 6, 130 or 143; see `ExitCode`).

    `continues` lists the commands that resume after a stop. For the others, the message after a stop states that they
    start over.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    sys.argv[1:] = map(expand_home, sys.argv[1:])
    die_with_dvc()
    stop = _Stop(debug=debug)
    code, sentence = _run(command, stop, debug=debug)
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        resumes = next((word for word in sys.argv[1:] if not word.startswith("-")), "") in continues
        again = "run the same command again to continue" if resumes else "run again, the command starts over"
        sentence = f"{sentence}; {again}"
    sentence = printable(sentence).replace("\n", "\\n")  # keep it on one line, whatever the names in it
    _leave(code, f"{name}: {sentence}\n" if sentence else "", stop)


def expand_home(argument: str) -> str:
    """Expand `~` where the shell did not: quoted, in `--out=~/x`, or in a DVC command.

    The argument is left unchanged if a file with that literal name exists.
    """
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    if not (value == "~" or value.startswith("~/")) or Path(value).exists():
        return argument
    return f"{option}{equals}{Path(value).expanduser()}"


class _Stop:
    """Signal handler for SIGTERM and Ctrl-C: raises `Terminated` or `KeyboardInterrupt` and stores the signal `number`.

    These errors can be raised anywhere. Native code may turn them into other errors and complain on stderr, so stderr
    is closed from the first signal on. A signal that the parent process ignores stays ignored.
    """

    def __init__(self, *, debug: bool) -> None:
        self.number = 0  # not the error itself, which would keep all frames and their objects alive
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
        """Ignore signals from now on, because the exit code is decided, and reopen stderr."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if self._stderr >= 0:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os.dup2(self._stderr, 2)


def _error_of(number: int) -> BaseException:
    if number == signal.SIGTERM:
        return Terminated("stopped by SIGTERM")
    return KeyboardInterrupt()


def _run(command: Callable[[], object], stop: _Stop, *, debug: bool) -> tuple[int, str]:
    """Return the exit code and the message, which may be empty."""
    try:
        if "" in sys.argv[1:]:  # as a path, it would be the current folder
            raise UsageError(f"argument {sys.argv.index('', 1)} is empty; is a variable of the shell not set?")
        result = command()
        sys.stdout.flush()  # so that a full disk is still reported as an error
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # typer exits with 1 and no message
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
            words = " ".join(str(error).split())
            internal = f"internal error: {type(error).__name__}: {words}; run again with --debug and report it"
            return explain(error) or (1, internal)
    else:
        code = result if isinstance(result, int) else ExitCode.DONE
        if code != ExitCode.INTERRUPTED:  # typer's exit code for Ctrl-C, without a message
            return code, ""
    message = explain(_error_of(stop.number))
    assert message is not None
    return message


def _of_broken_pipe(error: BrokenPipeError) -> tuple[int, str]:
    """Handle a closed pipe: not an error if it is stdout or stderr, as with `| head`; other pipes lead to workers."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, select.POLLOUT)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        return ExitCode.BROKEN_PIPE, ""
    return explain(error) or (ExitCode.ENVIRONMENT, str(error))


def _leave(code: int, sentence: str, stop: _Stop) -> None:
    """Exit without joining pools or threads: all output is on disk, and a hung worker must not delay the exit."""
    stop.ignore()
    for stream, text in ((sys.stdout, ""), (sys.stderr, restore_terminal() + sentence)):
        with contextlib.suppress(OSError, ValueError):  # a full disk or a closed pipe cannot be reported
            stream.write(text)
            stream.flush()
    if code:
        gc.collect()  # frees semaphores of a pool, which would be reported as leaked
        os._exit(int(code))
    sys.exit(0)
