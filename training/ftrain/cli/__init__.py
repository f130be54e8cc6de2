"""`ftrain`: train, evaluate, predict. Commands import heavy modules lazily, so that `--help` is fast."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Annotated, Literal

import typer

import ftrain.tasks
from fschemas.command_line import print_result, print_version, run_command
from fschemas.failures import ExitCode
from fschemas.folders import claim_output
from fschemas.landmarks import FASHIONAI_24
from fschemas.preflight import check_checkpoint, check_file, check_paths, check_run, check_run_or_runs, check_shards
from fschemas.progress import Reporter
from fschemas.wording import count
from ftrain.cli import config as cli_config
from ftrain.cli import search as cli_retrieval
from ftrain.cli.options import BatchSize, Checkpoint, Device, Quiet, Run, Shards, Tta, Workers, command_line
from ftrain.cli.use import register
from ftrain.tasks import task_names

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich doubles the startup time only to draw frames
)


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version.")
    ] = False,
) -> None:
    """Train, evaluate and use models from shard sets."""


def _training_command(task_name: str) -> None:
    def command(
        shards: Shards,
        run: Annotated[Path, typer.Option(help="Run folder to write or to go on with.")],
        params: Annotated[Path | None, typer.Option(help="params.yaml; the one here if there is one.")] = None,
        section: Annotated[
            str | None,
            typer.Option(help="Section of params.yaml with the profiles; that of the task's name if not given."),
        ] = None,
        profile: Annotated[str | None, typer.Option(help="Profile of params.yaml, or of ftrain itself.")] = None,
        overrides: Annotated[
            list[str] | None, typer.Option("--set", "-s", metavar="A.B=C", help="Override a parameter.")
        ] = None,
        garment: Annotated[str | None, typer.Option(help="Train one garment only (model.garment).")] = None,
        resume: Annotated[
            Literal["auto", "never", "required"],
            typer.Option(help="auto: go on with the same run, set another one aside."),
        ] = "auto",
        init_from: Annotated[
            Path | None, typer.Option(help="Run folder, or weight file of the backbone, to start from.")
        ] = None,
        lock: Annotated[Path | None, typer.Option(help="Split lock that the shards must carry (split_lock).")] = None,
        amp: Annotated[Literal["none", "bf16"] | None, typer.Option(help="Mixed precision (fit.amp).")] = None,
        compile: Annotated[bool, typer.Option("--compile", help="torch.compile the model (fit.compile).")] = False,  # noqa: A002
        exact: Annotated[
            bool, typer.Option("--exact", help="Same bits for any number of processes (fit.exact).")
        ] = False,
        limit_steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps.")] = None,
        workers: Workers = 2,
        threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads of the CPU for the model.")] = None,
        device: Device = "auto",
        tracker: Annotated[
            list[str] | None,
            typer.Option(
                help="dvclive (the default, if installed), tensorboard, mlflow, none; may be repeated. The run folder has its CSV files in any case."
            ),
        ] = None,
        quiet: Quiet = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        from ftrain.fit.config_values import check_config
        from ftrain.fit.profiles import params_here
        from ftrain.fit.trackers import check_trackers, default_trackers

        params = params_here(params)
        chosen = list(overrides or [])
        chosen += [f"model.garment={garment}"] if garment else []
        chosen += [f"split_lock={json.dumps(str(lock))}"] if lock else []
        chosen += [f"fit.amp={amp}"] if amp else []
        chosen += ["fit.compile=true"] if compile else []
        chosen += ["fit.exact=true"] if exact else []
        trackers = tuple(tracker or default_trackers())
        check_shards(shards)
        check_paths([init_from], "no such run folder or weight file")
        check_run(init_from if init_from is not None and init_from.is_dir() else None)
        check_trackers(trackers)
        check_config(task_name, params, profile, chosen, section)
        claim_output(run, "run")

        from ftrain.fit.train import TrainOptions, train

        options = TrainOptions(
            shards, run, params, profile, tuple(chosen), resume, init_from,
            workers, threads, device, limit_steps, trackers, command_line(), section,
        )  # fmt: skip
        with Reporter(units={"training": "steps"}, quiet=quiet):
            result = train(task_name, options)
        best = result["best"]
        found = f"best {best['metric']} {best['value']:.4f} at step {best['step']}" if best else "no validation"
        print_result(result, f"{run}: step {result['step']}, {found}", as_json=as_json)

    command.__doc__ = _first_line_of_module(task_name)
    if task_name != "keypoints":  # the other tasks have no models of a single garment
        signature = inspect.signature(command, eval_str=True)
        kept = [parameter for name, parameter in signature.parameters.items() if name != "garment"]
        command.__signature__ = signature.replace(parameters=kept)  # pyright: ignore[reportFunctionMemberAccess]
    app.command(task_name, rich_help_panel="Train")(command)


def _first_line_of_module(task_name: str) -> str:
    """First line of a task's docstring, read without importing the task: torch takes seconds."""
    path = Path(ftrain.tasks.__path__[0], task_name, "task.py")
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or task_name).splitlines()[0]


CONTINUES = frozenset(task_names())  # training continues from its checkpoint
for _name in task_names():
    _training_command(_name)


@app.command(rich_help_panel="Use")
def evaluate(
    run: Run,
    shards: Shards,
    out: Annotated[Path | None, typer.Option(help="Folder for metrics and plots; RUN/evaluation by default.")] = None,
    split: Annotated[str, typer.Option(help="Split to evaluate.")] = "test",
    checkpoint: Checkpoint = "best",
    workers: Workers = 2,
    device: Device = "auto",
    batch_size: BatchSize = 32,
    tta: Tta = None,
    allow_collapse: Annotated[
        bool, typer.Option(help="Exit code 0 although one answer dominates the predictions.")
    ] = False,
    lock: Annotated[
        Path | None, typer.Option(help="Split lock that the shards must carry, besides that of the run.")
    ] = None,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Evaluate a run on a split: metrics (JSON, CSV), plots and the baseline."""
    from ftrain.data.split_lock import lock_digest

    check_run(run)
    check_checkpoint(run, checkpoint)
    check_shards(shards)
    digest, target = lock_digest(str(lock or "")), claim_output(out or run / "evaluation", "evaluation")

    from ftrain.use.evaluate import evaluate_run, refuse_collapse, summary_lines

    with Reporter(quiet=quiet):
        metrics = evaluate_run(
            run,
            shards,
            target,
            split=split,
            checkpoint=checkpoint,
            workers=workers,
            device=device,
            batch_size=batch_size,
            tta=tta,
            allow_collapse=True,  # refused below, after the output is printed
            lock=digest,
        )
    if metrics:  # only the main process of torchrun has metrics
        print_result(metrics, "\n".join([*summary_lines(metrics), f"written to {target}"]), as_json=as_json)
    if not allow_collapse:
        refuse_collapse(run, metrics)


@app.command(rich_help_panel="Use")
def submit(
    run: Annotated[
        Path, typer.Argument(help="Run folder, or a folder of runs named by their garment (--garment models).")
    ],
    test: Annotated[Path, typer.Argument(help="test.csv of the challenge, with Images/ beside it.")],
    out: Annotated[Path, typer.Argument(help="CSV file to write.")],
    checkpoint: Checkpoint = "best",
    tta: Annotated[
        bool,
        typer.Option(
            "--tta/--no-tta", help="Test-time augmentation: every view of the task, or the plain image alone."
        ),
    ] = True,
    device: Device = "auto",
    quiet: Quiet = False,
    batch_size: BatchSize = 16,
) -> None:
    """Write the 26-column file of the FashionAI challenge.

    Uses the checkpoint with the best validation NE.
    """
    check_run_or_runs(run, FASHIONAI_24.garments)
    check_file(test, "no such file", "give the test.csv of the challenge")

    from ftrain.use.submit import write_submission

    with Reporter(quiet=quiet):
        rows = write_submission(run, test, out, checkpoint=checkpoint, tta=tta, device=device, batch_size=batch_size)
    print_result(rows, f"{out}: {count(rows, 'row')}", as_json=False)


register(app)
cli_retrieval.register(app)
app.add_typer(cli_config.app, name="config", rich_help_panel="Use")


def main() -> None:
    """Entry point of the console script."""
    run_command(_run, "ftrain", CONTINUES)


def _run() -> object:
    result = app(standalone_mode=False)
    if result == ExitCode.INTERRUPTED:  # typer's exit code for Ctrl-C, without a message
        raise KeyboardInterrupt
    return result
