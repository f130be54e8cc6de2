"""The training commands, one per task: `ftrain keypoints SHARDS --run RUN` and so on."""

import ast
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

import ftrain.tasks
from fschemas.command_line import print_result
from fschemas.folders import claim_output
from fschemas.preflight import check_paths, check_run, check_shards
from fschemas.progress import Reporter
from ftrain.cli.options import (
    AsJson,
    Device,
    Overrides,
    Params,
    Profile,
    Quiet,
    Section,
    ShardSets,
    Threads,
    Transforms,
    Workers,
    command_line,
)  # fmt: skip

_TRACKERS = "dvclive (default if installed), tensorboard, mlflow or none; repeatable. CSV files are always written."


def training_command(task_name: str) -> Callable[..., None]:
    """Create the command that trains a task; only keypoints has `--garment`."""

    def train(
        shards: ShardSets,
        run: Annotated[Path, typer.Option(help="Run folder to create or resume.")],
        params: Params = None,
        section: Section = None,
        profile: Profile = None,
        overrides: Overrides = None,
        garment: Annotated[str | None, typer.Option(help="Train one garment only (model.garment).")] = None,
        resume: Annotated[
            Literal["auto", "never", "required"],
            typer.Option(help="auto: resume a matching run, or move any other run aside."),
        ] = "auto",
        init_from: Annotated[
            Path | None, typer.Option(help="Run folder, or weight file of the backbone, to start from.")
        ] = None,
        lock: Annotated[Path | None, typer.Option(help="Split lock that the shards must match (split_lock).")] = None,
        amp: Annotated[Literal["none", "bf16", "fp16"] | None, typer.Option(help="Mixed precision (fit.amp).")] = None,
        compile: Annotated[bool, typer.Option("--compile", help="torch.compile the model (fit.compile).")] = False,  # noqa: A002
        exact: Annotated[
            bool, typer.Option("--exact", help="Bit-identical results for any number of processes (fit.exact).")
        ] = False,
        deterministic: Annotated[
            bool, typer.Option("--deterministic", help="The same bits in every run on the same GPUs, but slower.")
        ] = False,
        limit_steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps.")] = None,
        workers: Workers = None,
        threads: Threads = None,
        device: Device = "auto",
        transforms: Transforms = "auto",
        tracker: Annotated[list[str] | None, typer.Option(help=_TRACKERS)] = None,
        quiet: Quiet = False,
        as_json: AsJson = False,
    ) -> None:
        from ftrain.fit.config import load_config
        from ftrain.fit.profiles import params_here
        from ftrain.fit.trackers import check_trackers, default_trackers

        params = params_here(params)
        values = {
            "model.garment": garment, "split_lock": json.dumps(str(lock)) if lock else None, "fit.amp": amp,
            "fit.compile": "true" if compile else None, "fit.exact": "true" if exact else None,
        }  # fmt: skip
        overrides = [*(overrides or []), *(f"{key}={value}" for key, value in values.items() if value)]
        trackers = tuple(tracker or default_trackers())
        for location in shards:
            check_shards(location)
        check_paths([init_from], "no such run folder or weight file")
        check_run(init_from if init_from is not None and init_from.is_dir() else None)
        check_trackers(trackers)
        load_config(task_name, params, profile, overrides, section)
        claim_output(run, "run")

        import ftrain.fit.train as fit
        from ftrain.fit.distributed import rank_and_world_size

        options = fit.TrainOptions(
            tuple(shards), run, params, profile, tuple(overrides), resume, init_from,
            workers, threads, device, limit_steps, trackers, command_line(), section, transforms, deterministic,
        )  # fmt: skip
        with Reporter(units={"training": "steps"}, quiet=quiet):
            result = fit.train(task_name, options)
        if rank_and_world_size()[0]:  # the main process of torchrun prints for all
            return
        best = result["best"]
        metric = f"best {best['metric']} {best['value']:.4f} at step {best['step']}" if best else "no validation"
        print_result(result, f"{run}: step {result['step']}, {metric}", as_json=as_json)

    train.__doc__ = _first_line_of_module(task_name)
    if task_name != "keypoints":
        signature = inspect.signature(train, eval_str=True)
        parameters = [parameter for name, parameter in signature.parameters.items() if name != "garment"]
        train.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return train


def _first_line_of_module(task_name: str) -> str:
    """First line of a task's docstring, read without importing the task: torch takes seconds."""
    path = next(path for folder in ftrain.tasks.__path__ if (path := Path(folder, task_name, "task.py")).exists())
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or task_name).splitlines()[0]
