"""A process that imports once and forks a child for every trial. Requests and responses are lines of JSON.

A child leads its own process group. It is stopped by a signal after a delay, or as soon as a file appears. The server
then waits for the rest of the group, so that trials do not disturb each other.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.jobs import answer
from tests.faults.layer import Layer

_PR_SET_CHILD_SUBREAPER = 36
_IMPORTS = (
    "cv2", "simplejpeg", "statistics", "pyarrow.dataset", "rich.console", "rich.markup", "typer.rich_utils", "typer._adapters",
    "fprep.cli", "fprep.convert.command", "fprep.lint.command", "fschemas.progress", "fprep.shard.command",
    "huggingface_hub.repocard",
)  # fmt: skip
_STOPS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 90.0  # seconds until a trial counts as hung


def _child(request: dict[str, Any], answer_to: int) -> None:
    """Run one job and send its result; never returns."""
    code, result = 1, dict[str, Any]()
    layer: Layer | None = None
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{request['log']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(request.get("environment", {}))
        # Background jobs of a shell inherit an ignored SIGINT, unlike commands in a terminal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in request["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        if request.get("uid"):
            os.setgroups([])
            os.setgid(request["uid"])
            os.setuid(request["uid"])
        fault = request.get("fault")
        layer = Layer(Path(fault["root"]), fault["kind"], fault["at"]) if fault else None
        result["value"], result["error"] = answer(request["job"], request["arguments"], layer)
        code = 0
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except KeyboardInterrupt:  # before the command has started
        code = 130
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if layer is not None:
            result["calls"] = layer.calls
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(answer_to, json.dumps(result).encode())
        os._exit(code)


def _run(request: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    start = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # until the child can handle them
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(read)
        _child(request, write)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    os.close(write)
    stop, stopped = request.get("stop"), False
    content, ended = b"", False
    if stop:
        ended, content = _until(stop, read, start)
        if not ended:
            stopped = True
            _send(pid, stop)
    while not ended:
        ready, _, _ = select.select([read], [], [], max(0.0, start + _PATIENCE - time.monotonic()))
        if not ready:
            _send(pid, {"signal": signal.SIGKILL, "group": True})
            os.waitpid(pid, 0)
            return {"hung": True, "code": None, "seconds": time.monotonic() - start}
        more = os.read(read, 1 << 16)
        content, ended = content + more, not more
    os.close(read)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.monotonic() - start
    left = _wait_for_group(pid)
    return {
        "code": code,
        "seconds": seconds,
        "stopped": stopped,
        "left": left,
        **(json.loads(content) if content else {}),
    }


def _until(stop: dict[str, Any], read: int, start: float) -> tuple[bool, bytes]:
    """Wait until the time of the signal; return whether the child ended before."""
    content = b""
    while True:
        if "when" in stop:  # a file appears
            place, pattern = Path(stop["when"]["folder"]), stop["when"]["pattern"]
            if any(True for _ in place.glob(pattern)):
                return False, content
            timeout = 0.001
        else:
            timeout = start + stop["delay"] - time.monotonic()
            if timeout <= 0:
                return False, content
        if select.select([read], [], [], timeout)[0]:
            more = os.read(read, 1 << 16)
            if not more:
                return True, content
            content += more
        assert time.monotonic() - start < _PATIENCE, "the file never appeared"


def _send(pid: int, stop: dict[str, Any]) -> None:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if stop.get("group", True) else os.kill)(pid, stop["signal"])


def _wait_for_group(pid: int) -> int:
    """Number of processes left in the group after 20 seconds (this process adopts orphans)."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            while os.waitpid(-pid, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return 0
        time.sleep(0.002)
    os.killpg(pid, signal.SIGKILL)
    return 1


def _serve() -> None:
    for name in _IMPORTS:
        with contextlib.suppress(ImportError):  # only saves time
            importlib.import_module(name)
    from fprep.readers.registry import readers

    readers()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gc.freeze()  # a child that fails collects garbage, and would visit and copy all that is imported
    for line in sys.stdin:
        request = json.loads(line)
        if request["job"] == "import":
            importlib.import_module(request["module"])
            gc.freeze()
            told: dict[str, Any] = {}
        else:
            told = _run(request)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    _serve()
