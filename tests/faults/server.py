"""The process that imports once and forks a child for every trial. Requests and answers are lines of JSON.

A child leads its own process group. It is stopped by a signal after a delay, or as soon as a file appears; whatever is then
left of the group is waited for, so that a trial never disturbs the next one.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.layer import Layer

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE = 90.0  # seconds until a trial counts as hung


def convert(raw: str, out: str, reader: str = "deepfashion-fine", **options: Any) -> None:
    """The library call behind `fprep convert`."""
    from fprep.convert import convert as run

    run(reader, [Path(raw)], Path(out), **{"images": "none", "max_rejected": 1.0, "workers": 1, **options})


def shard(table: str, out: str, **options: Any) -> None:
    """The library call behind `fprep shard`."""
    from fprep.shard import shard as run

    run(Path(table), Path(out), **{"shard_samples": 3, "workers": 1, **options})


def publishing(out: str, version: int, count: int = 2) -> dict[str, list[str]]:
    """Publish files, JSON and a folder, as `fschemas.publish` is meant to be used."""
    from fschemas.publish import exclusive, publish, publish_bytes, publish_json, remove_leftovers

    folder = Path(out)
    with exclusive(folder):
        remove_leftovers(folder)
        for number in range(count):
            publish_bytes(folder / f"file-{number}", bytes([version]) * (30_000 + number))
        if not (folder / f"tree-{version}").exists():
            with publish(folder / f"tree-{version}") as temporary:
                (temporary / "below").mkdir(parents=True)
                (temporary / "below/leaf").write_text(f"leaf {version}")
                (temporary / "state").write_bytes(b"x" * 50_000)
        publish_json(folder / "last.json", {"version": version})
    return {}


def checkpoints(out: str, steps: int, keep: int = 2) -> dict[str, list[str]]:
    """A training without a model: save every step, judge every second one, go on where the newest checkpoint stands.

    Gives all digests that a file had after any of the calls.
    """
    import torch

    from fschemas.publish import exclusive
    from ftrain import checkpoint

    folder, history = Path(out), dict[str, set[str]]()
    with exclusive(folder):
        checkpoint.clean(folder)
        found = checkpoint.newest(folder)
        state = found[1] if found else checkpoint.TrainingState(plan_id="plan", config_digest="config")
        while state.step < steps or state.validation_due:
            if not state.validation_due:
                state.step += 1
                state.validation_due = state.step % 2 == 0
                generator = torch.Generator().manual_seed(state.step)
                tensors = {name: {"weight": torch.randn(40, 50, generator=generator)} for name in ("model", "optimizer")}
                checkpoint.save_checkpoint(folder, state, tensors, keep=keep)
                _note(folder, history)
            if state.validation_due:
                value = [0.5, 0.3, 0.4, 0.2][state.step // 2 % 4]
                if not state.best or value < state.best["value"]:
                    state.best = {"metric": "error", "value": value, "step": state.step}
                state.validation_due = False
                checkpoint.amend_state(folder, state)
                _note(folder, history)
                checkpoint.mark_best(folder, state)
                _note(folder, history)
    return {name: sorted(digests) for name, digests in history.items()}


def cli(command: str, arguments: list[str]) -> None:
    """A console script, as its entry point calls it."""
    if command == "ftrain":
        from ftrain.cli import main
    else:
        from fprep.cli import main
    sys.argv = [command, *arguments]
    main()


JOBS = {"convert": convert, "shard": shard, "publish": publishing, "checkpoints": checkpoints, "cli": cli}


def _note(folder: Path, history: dict[str, set[str]]) -> None:
    from tests.faults.harness import snapshot

    for name, digest in snapshot(folder).items():
        history.setdefault(name, set()).add(digest)


def _child(request: dict[str, Any], answer_to: int) -> None:
    """Do one job and answer; never returns."""
    code, result = 1, dict[str, Any]()
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{request['log']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(request.get("environment", {}))
        if request.get("uid"):
            os.setgroups([])
            os.setgid(request["uid"])
            os.setuid(request["uid"])
        fault = request.get("fault")
        layer = Layer(Path(fault["root"]), fault["kind"], fault["at"]) if fault else None
        if layer is not None:
            layer.install()
        try:
            result["value"] = JOBS[request["job"]](**request["arguments"])
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - told to the test
            result["error"] = _told(error)
        if layer is not None:
            layer.uninstall()
            result["calls"] = layer.calls
        code = 0
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException as error:  # noqa: BLE001 - told to the test
        result["error"] = _told(error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(answer_to, json.dumps(result).encode())
        os._exit(code)


def _told(error: BaseException) -> dict[str, Any]:
    from fschemas.failures import explain

    code, sentence = explain(error) or (1, repr(error))
    return {"type": type(error).__name__, "code": int(code), "sentence": sentence}


def _run(request: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(read)
        _child(request, write)
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
    return {"code": code, "seconds": seconds, "stopped": stopped, "left": left, **(json.loads(content) if content else {})}


def _until(stop: dict[str, Any], read: int, start: float) -> tuple[bool, bytes]:
    """Wait for the moment of the signal; whether the child ended before."""
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
    try:
        (os.killpg if stop.get("group", True) else os.kill)(pid, stop["signal"])
    except ProcessLookupError:
        pass


def _wait_for_group(pid: int) -> int:
    """How many of the group are left after 20 seconds (they are orphans of ours by then: this process adopts them)."""
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
    import cv2  # noqa: F401
    import rich.console  # noqa: F401
    import rich.markup  # noqa: F401
    import simplejpeg  # noqa: F401

    import fprep.cli
    import fprep.convert
    import fprep.lint
    import fprep.progress
    import fprep.shard
    from fprep.reader import readers

    readers()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for line in sys.stdin:
        request = json.loads(line)
        if request["job"] in ("import",):
            import ftrain.checkpoint
            import ftrain.cli  # noqa: F401

            answer: dict[str, Any] = {}
        else:
            answer = _run(request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
