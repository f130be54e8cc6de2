"""Trainer runs in separate processes, without the cost of `import torch` each time.

As a script, this is a server: it imports once and forks a child for each request on standard input. As a module, it is
the client: `ForkServer.start(function, **arguments)` returns a `Child` that can be signaled and waited for.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass
class Child:
    """A forked process, leader of its own process group; `log` holds its output."""

    server: ForkServer
    pid: int
    log: Path

    def send(self, number: int, *, group: bool = True) -> None:
        """Send a signal to the process group, or only to the leader."""
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, timeout: float = 60.0) -> int:
        """Return its exit code, negative for a signal; kill the whole group after `timeout` seconds."""
        answer = self.server.ask({"wait": self.pid, "timeout": timeout})
        if answer["code"] is None:
            os.killpg(self.pid, signal.SIGKILL)
            raise AssertionError(f"still running after {timeout} s: {self.text()}")
        return answer["code"]

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def wait_for(self, words: str, timeout: float = 60.0) -> None:
        """Wait until the words are in the log."""
        end = time.monotonic() + timeout
        while words not in self.text():
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            assert state != "Z" or words in self.text(), f"ended without {words!r}: {self.text()}"
            assert time.monotonic() < end, f"{words!r} does not appear in: {self.text()}"
            time.sleep(0.002)


class ForkServer:
    """Client of the server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": paths,
            "PYTHONWARNINGS": "error::RuntimeWarning",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.ftrain.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment, cwd=folder,
        )  # fmt: skip

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, function: str, environment: dict[str, str] | None = None, **arguments: Any) -> Child:
        """Fork a child that calls one of the functions below."""
        self.number += 1
        log = self.folder / f"log-{self.number}.txt"
        log.touch()
        answer = self.ask({
            "function": function, "arguments": arguments, "log": str(log), "environment": environment or {},
        })  # fmt: skip
        return Child(self, answer["pid"], log)

    def start_group(
        self, function: str, world_size: int, of_rank: dict[int, dict[str, Any]] | None = None, **arguments: Any
    ) -> list[Child]:
        """Start one child per rank, like torchrun; with one process, without a process group.

        `of_rank` has arguments of single ranks.
        """
        if world_size == 1:
            return [self.start(function, **arguments)]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        together = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [
            self.start(function, {**together, "RANK": str(rank)}, **{**arguments, **(of_rank or {}).get(rank, {})})
            for rank in range(world_size)
        ]

    def run(self, function: str, **arguments: Any) -> Child:
        """Start, wait and require exit code 0."""
        child = self.start(function, **arguments)
        code = child.wait()
        assert code == 0, (code, child.text())
        return child

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()  # there is nothing to write, and torch takes seconds to shut down
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def tiny(
    shards: str,
    run: str,
    workers: int = 0,
    limit_steps: int | None = None,
    model: Any = None,
    dump_scores: bool = False,
    **fit: Any,
) -> None:
    """Train the tiny task as one process of the environment's group; optionally write the validation scores."""
    from contextlib import nullcontext

    import torch
    from tests.ftrain.tiny import metrics
    from tests.ftrain.tiny_task import make_trainer

    from ftrain.data.remote import open_shards
    from ftrain.fit.distributed import processes
    from ftrain.fit.run_folder import RunFolder

    with processes("cpu") as group, RunFolder(Path(run)).hold() if group.is_main else nullcontext():
        trainer = make_trainer(
            open_shards(shards), Path(run), group, workers=workers, limit_steps=limit_steps, model=model, **fit
        )  # fmt: skip
        if dump_scores:
            compute, path = metrics.compute_metrics, Path(run) / f"scores-{group.rank}.pt"
            metrics.compute_metrics = lambda task, results: (
                torch.save(torch.from_numpy(results["scores"]), path), compute(task, results)
            )[1]  # fmt: skip
        trainer.train()


def evaluate(shards: str, out: str, rows: int, batch_size: int, workers: int) -> None:
    """Write the results of an untrained tiny task on the first rows, from each process."""
    import numpy as np
    import torch
    from tests.ftrain.tiny.task import Tiny, TinyConfig

    from fschemas.shard_set import ShardSet
    from ftrain.fit.distributed import processes
    from ftrain.fit.evaluation import results_of_split

    torch.manual_seed(0)
    opened = ShardSet.open(shards)
    task = Tiny(TinyConfig(), opened.metadata)
    with processes("cpu") as group:
        results = results_of_split(task, opened, np.arange(rows), group, batch_size, workers)
        np.savez(f"{out}-{group.rank}.npz", **results)


def gradients(sets: dict[str, str], out: str) -> None:
    """Write losses and gradients of one batch of every test case, shared by the processes of the group."""
    import torch
    from safetensors.torch import save_file
    from tests.ftrain.tasks.cases import CASES, batch_of, fresh_task

    from fschemas.shard_set import ShardSet
    from ftrain.fit.distributed import processes
    from ftrain.fit.gradients import GlobalBatch, accumulate
    from ftrain.fit.sync_batch_norm import synchronize_batch_norm
    from ftrain.layers.mixing import Mixing

    with processes("cpu") as group:
        for name, case in CASES.items():
            shards = ShardSet.open(sets[name])
            task = fresh_task(case, shards)
            with torch.no_grad():  # biases of 0 put units at the kink of ReLU, where rounding decides on the gradient
                for key, parameter in task.named_parameters():
                    if key.endswith("bias"):
                        parameter.add_(0.1 * torch.randn(parameter.shape))
            for module in task.modules():
                if isinstance(module, torch.nn.modules.dropout._DropoutNd | Mixing):
                    module.eval()
            batch, model = batch_of(task, shards), task
            if group.world_size > 1:
                synchronize_batch_norm(task, group.device)
                model = torch.nn.parallel.DistributedDataParallel(task)
            part = {key: values.chunk(group.world_size)[group.rank] for key, values in batch.items()}
            losses = accumulate([part], lambda batch, _, model=model: model(batch), model, GlobalBatch(task, group))
            means = group.mean(torch.stack(list(losses.values())))
            found = {key: p.grad.contiguous() for key, p in task.named_parameters() if p.grad is not None}
            found |= {
                f"statistics/{key}": value.contiguous() for key, value in task.named_buffers() if "running" in key
            }
            if group.is_main:
                save_file(
                    found | {f"loss/{key}": value.clone() for key, value in zip(losses, means, strict=True)},
                    f"{out}/{name}-{group.world_size}.safetensors",
                )


def cli(arguments: list[str]) -> None:
    """The console script `ftrain`."""
    from ftrain.cli import main

    sys.argv = ["ftrain", *arguments]
    main()


def _serve() -> None:
    import pandas as pd  # noqa: F401 - pyarrow and the first optimizer would import these two, in each child anew
    import torch
    import torch._dynamo
    from tests.ftrain import tiny_task  # noqa: F401

    import ftrain.cli
    import ftrain.fit.train

    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": _wait(request["wait"], request["timeout"])}
        else:
            if request["function"] in ("cli", "gradients"):
                ftrain.tasks.task.tasks()  # imported once, for all children
            gc.freeze()  # a child that fails collects garbage, and would visit and copy all that is imported
            pid = os.fork()
            if pid == 0:
                _child(request)
            _lead_own_group(pid)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


def _wait(pid: int, timeout: float) -> int | None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def _lead_own_group(pid: int) -> None:
    """Called by server and child alike, so that the group exists for both."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)


def _child(request: dict[str, Any]) -> None:
    from fschemas.command_line import run_command

    code = 1
    try:
        _lead_own_group(0)
        os.environ.update(request["environment"])
        descriptor = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(descriptor, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # otherwise a child could read the server's requests
        function = {"tiny": tiny, "evaluate": evaluate, "gradients": gradients, "cli": cli}[request["function"]]
        if function is cli:
            cli(**request["arguments"])
        else:
            run_command(lambda: function(**request["arguments"]), request["function"])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
