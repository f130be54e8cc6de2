"""The frame of both console scripts: every error becomes one sentence and an exit code, a traceback only on `--debug`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from fschemas.failures import ExitCode, Terminated, explain
from fschemas.publish import die_with_dvc


def run_command(command: Callable[[], object], name: str) -> None:
    """Run a command line and leave the process with its exit code (DESIGN: 0, 2, 3, 4, 5, 6, 130, 143)."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    die_with_dvc()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        result = command()
    except SystemExit as leaving:
        _leave(leaving.code if isinstance(leaving.code, int) else ExitCode.DONE)
    except BrokenPipeError:
        _leave(ExitCode.DONE)
    except BaseException as error:  # noqa: BLE001 - the one place where all errors end
        show = getattr(error, "show", None)
        if show is not None:  # click's own usage errors
            show()
            _leave(ExitCode.USAGE)
        if type(error).__name__ == "Abort":  # click turns Ctrl-C into this
            error = KeyboardInterrupt()
        if debug:
            raise
        code, sentence = explain(error) or (1, _internal(error))
        sys.stderr.write(f"{name}: {sentence}\n")
        _leave(code)
    else:
        _leave(result if isinstance(result, int) else ExitCode.DONE)


def _internal(error: BaseException) -> str:
    return f"internal error: {type(error).__name__}: {error}; run again with --debug and report it"


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated("stopped by SIGTERM; run the same command again to go on")


def _leave(code: int) -> None:
    """Leave without joining pools or threads: what had to be on disk is there, and a hung worker must not hold the exit."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    os._exit(int(code)) if code else sys.exit(0)
